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
        sent: "proxyDownload of a host that is no peer's, by http, of addresses, and of what leads elsewhere",
        expected: "a refusal of each, and none of the bytes",
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
    let elsewhere = ctx.mimi(1).store(name, FILE);
    let leads_away = ctx.mimi(0).store_elsewhere(&format!("{name}-away"), &elsewhere);
    let by_http = ctx.mimi(0).store(name, FILE).replacen("https:", "http:", 1);
    for (what, url) in [
        ("a host that is no peer's", elsewhere.as_str()),
        ("http", &by_http),
        ("an address", "https://127.0.0.1/files/x"),
        ("an address inside", "https://[::1]/files/x"),
        ("another port of an address", "https://10.0.0.1:8443/x"),
        ("user and password", "https://user:secret@127.0.0.1/x"),
        ("a redirect to another host", &leads_away),
    ] {
        let reply = ctx.mimi(0).call(Endpoint::ProxyDownload, url, "").await?;
        let is_refused = reply.status >= 400 && !reply.body.windows(FILE.len()).any(|part| part == FILE);
        ctx.check(&format!("{what}: refused"), is_refused, || reply.brief())?;
    }
    Ok(())
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
