//! Cases 74 and 75: files of other providers' users (MIMI #download-using-a-hub-proxy, MIMI #download-using-oblivious-http). The subject's
//! operator says which hosts are peers' asset hosts; for what is to be fetched, the checker's first provider has to be one.

use std::io::Cursor;

use bhttp::{Message, Mode};
use nabe_wire::directory::Endpoint;

use crate::case::{Case, Checked, Peers, Suite, failed, skipped};
use crate::context::Ctx;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-74",
        title: "no open proxy",
        suite: Suite::MimiHub,
        requirements: &["MIMI-assets-proxy", "MIMI-assets-proxy-peers"],
        sent: "proxyDownload of a host that is no peer's, by http, of addresses, of hosts whose names are almost an asset host's, of what is no \
               URL, and of what leads elsewhere",
        expected: "403 or 400 of each but the last; of that a refusal; no host is asked but for the last, and that one alone",
        peers: Peers::Mimi(2),
        run: run!(no_open_proxy),
    },
    Case {
        id: "mimi-74b",
        title: "a file of a peer's",
        suite: Suite::MimiHub,
        requirements: &["MIMI-assets-proxy"],
        sent: "proxyDownload of a file of the checker's first provider",
        expected: "200 and the file",
        peers: Peers::Mimi(2),
        run: run!(proxied),
    },
    Case {
        id: "mimi-75",
        title: "oblivious HTTP",
        suite: Suite::MimiHub,
        requirements: &[
            "MIMI-assets-ohttp",
            "MIMI-assets-ohttp-enabled",
            "MIMI-assets-ohttp-peers",
        ],
        sent: "sealed requests for a file of the checker's first provider and for one of a host that is no peer's",
        expected: "the file; a refusal inside",
        peers: Peers::Mimi(2),
        run: run!(oblivious),
    },
];

const FILE: &[u8] = b"a picture of a fish";

async fn no_open_proxy(ctx: &Ctx) -> Checked {
    let name = ctx.tag();
    let (asset_host, other) = (ctx.mimi(0).domain(), ctx.mimi(1).domain());
    let elsewhere = ctx.mimi(1).store(name, FILE);
    let file = ctx.mimi(0).store(name, FILE);
    let path = format!("/files/{name}");
    for (what, url) in [
        ("a host that is no peer's", elsewhere.clone()),
        ("http", file.replacen("https:", "http:", 1)),
        ("an address", format!("https://127.0.0.1{path}")),
        ("an address inside", format!("https://[::1]{path}")),
        ("another port of an address", format!("https://10.0.0.1:8443{path}")),
        (
            "an asset host as user name",
            format!("https://{asset_host}@{other}{path}"),
        ),
        (
            "what ends like an asset host",
            format!("https://not-{asset_host}{path}"),
        ),
        (
            "what is below an asset host",
            format!("https://below.{asset_host}{path}"),
        ),
        (
            "what begins like an asset host",
            format!("https://{asset_host}.{other}{path}"),
        ),
        ("no URL", name.to_owned()),
    ] {
        let reply = ctx.mimi(0).call(Endpoint::ProxyDownload, &url, "").await?;
        // Who tries and fails answers by another status, and that is too late.
        let is_refused = matches!(reply.status, 400 | 403) && !has_file(&reply.body);
        ctx.check(&format!("{what}: 403 or 400"), is_refused, || reply.brief())?;
    }
    let away = format!("{name}-away");
    let leads_away = ctx.mimi(0).store_elsewhere(&away, &elsewhere);
    let reply = ctx.mimi(0).call(Endpoint::ProxyDownload, &leads_away, "").await?;
    let is_refused = reply.status >= 400 && !has_file(&reply.body);
    ctx.check("a redirect to another host: refused", is_refused, || reply.brief())?;
    match ctx.mimi(0).fetched(&away) {
        0 => ctx.observe(format!("{asset_host} is no asset host of a peer's to the subject")),
        _ => ctx.observe("what leads elsewhere was asked for, and not followed"),
    }
    let fetched = [(0, name), (1, name)].map(|(peer, name)| ctx.mimi(peer).fetched(name));
    ctx.check("none of these is asked for", fetched == [0, 0], || {
        format!("{fetched:?}")
    })
}

fn has_file(body: &[u8]) -> bool {
    body.windows(FILE.len()).any(|part| part == FILE)
}

async fn proxied(ctx: &Ctx) -> Checked {
    let url = ctx.mimi(0).store(ctx.tag(), FILE);
    let reply = ctx.mimi(1).call(Endpoint::ProxyDownload, &url, "").await?;
    if reply.status == 403 {
        return skipped(format!(
            "{} is no asset host of a peer's to the subject",
            ctx.mimi(0).domain()
        ));
    }
    let is_file = reply.status == 200 && reply.body == FILE;
    ctx.check("the file", is_file, || reply.brief())
}

async fn oblivious(ctx: &Ctx) -> Checked {
    let directory = ctx.mimi(1).directory().await?;
    let (Some(gateway), Some(keys)) = (directory.get("ohttpGateway"), directory.get("ohttpKeys")) else {
        return skipped(
            "the directory names no gateway under `ohttpGateway` and `ohttpKeys`; the draft has no name for it",
        );
    };
    let path = |url: &str| {
        let rest = url.strip_prefix("https://").and_then(|rest| rest.split_once('/'));
        rest.map_or_else(|| "/".to_owned(), |(_, path)| format!("/{path}"))
    };
    let keys = ctx.mimi(1).request("GET", &path(keys), &[], "").await?;
    ctx.answers("the gateway's keys", &keys, 200, "")?;
    let fetch = async |host: &str, file: &str| {
        let broken = |got: String| crate::case::Stop::Failed {
            expected: "a sealed exchange".to_owned(),
            got,
        };
        let mut request = Vec::new();
        let message = Message::request(
            b"GET".to_vec(),
            b"https".to_vec(),
            host.as_bytes().to_vec(),
            file.as_bytes().to_vec(),
        );
        message
            .write_bhttp(Mode::KnownLength, &mut request)
            .map_err(|error| broken(error.to_string()))?;
        let client = ohttp::ClientRequest::from_encoded_config_list(&keys.body);
        let sealed = client.and_then(|client| client.encapsulate(&request));
        let (sealed, opener) = sealed.map_err(|error| broken(error.to_string()))?;
        let from = format!("mimi@{}", ctx.mimi(1).domain());
        let headers = [("from", from.as_str()), ("content-type", "message/ohttp-req")];
        let reply = ctx.mimi(1).request("POST", &path(gateway), &headers, sealed).await?;
        if reply.status != 200 {
            return failed("the gateway: 200", reply.brief());
        }
        let opened = opener
            .decapsulate(&reply.body)
            .map_err(|error| broken(error.to_string()))?;
        let answer = Message::read_bhttp(&mut Cursor::new(opened)).map_err(|error| broken(error.to_string()))?;
        let status = answer.control().status().map_or(0, |status| status.code());
        Ok((status, answer.content().to_vec()))
    };
    let stored = ctx.mimi(1).store(ctx.tag(), FILE);
    let file = path(&stored);
    let (status, content) = fetch(ctx.mimi(1).domain().as_str(), &file).await?;
    let is_refused = status >= 400 && content != FILE;
    ctx.check("a host that is no peer's: refused", is_refused, || status.to_string())?;
    ctx.mimi(0).store(ctx.tag(), FILE);
    let (status, content) = fetch(ctx.mimi(0).domain().as_str(), &file).await?;
    if status == 403 {
        return skipped(format!(
            "{} is no asset host of a peer's to the subject",
            ctx.mimi(0).domain()
        ));
    }
    ctx.check("the file", status == 200 && content == FILE, || status.to_string())
}
