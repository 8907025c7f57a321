//! Case 73: who is meant (MIMI #find-internal-address). Whom the subject lets be found is between it and its users. If it has a way for a user to
//! say so, one is found by what they say, and by nothing else; in any case it is checked what it says of the others.

use nabe_signing::json::Json;
use nabe_signing::object;
use nabe_wire::Encode as _;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::directory::Endpoint;
use nabe_wire::identifier_query::{
    IdentifierQueryCode, IdentifierRequest, IdentifierResponse, QueryElement, SearchField, SearchIdentifierType,
};

use super::keys::user_with;
use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;

pub(crate) const CASES: &[Case] = &[Case {
    id: "mimi-73",
    title: "looking for users",
    suite: Suite::MimiFollower,
    requirements: &[
        "MIMI-query-codes",
        "MIMI-query-request-form",
        "MIMI-query-response-form",
        "MIMI-query-searchable",
        "MIMI-query-safe",
    ],
    sent: "queries for a user who lets be searched for their handle, and for their name in part, and for parts of both; for a handle that nobody has, twice; for a user who has not said that they may be found; without a condition; for a \
           vCard property that is none; and for another domain",
    expected: "the user's URI by their handle and by a part of their name, ambiguous for a part of the handle, nobody by their hidden nickname (if there is a way to say so); notFound and the same again; notFound; forbidden, ambiguous or notFound; unsupportedField; a refusal of the 400s",
    peers: Peers::Mimi(1),
    run: run!(looking),
}];

async fn looking(ctx: &Ctx) -> Checked {
    let domain = ctx.subject_domain().clone();
    let ask = async |elements: Vec<QueryElement>| -> Checked<IdentifierResponse> {
        let request = IdentifierRequest {
            query_elements: elements,
            id_request_extensions: AppDataDictionary::default(),
        };
        let peer = ctx.mimi(0);
        let answer: IdentifierResponse = peer
            .ask(Endpoint::IdentifierQuery, domain.as_str(), request.to_bytes())
            .await?;
        let is_empty = answer.response_code == IdentifierQueryCode::SUCCESS
            || (answer.uri.is_empty() && answer.found_profiles.is_empty());
        ctx.check("who is not found is not listed", is_empty, || format!("{answer:?}"))?;
        Ok(answer)
    };
    let handle = |handle: &str| QueryElement {
        search: SearchField::Other(SearchIdentifierType::HANDLE),
        search_value: handle.into(),
    };
    let expect = |what: &str, answer: &IdentifierResponse, codes: &[IdentifierQueryCode]| {
        let what = format!("{what}: {codes:?}");
        ctx.check(&what, codes.contains(&answer.response_code), || {
            format!("{:?}", answer.response_code)
        })
    };
    let nobody = format!("im:{}-nobody@{domain}", ctx.tag());
    let first = ask(vec![handle(&nobody)]).await?;
    expect("a handle that nobody has", &first, &[IdentifierQueryCode::NOT_FOUND])?;
    let again = ask(vec![handle(&nobody)]).await?;
    ctx.check("the same again", again == first, || format!("{again:?}"))?;
    let (user, _) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    let hidden = ask(vec![handle(&user)]).await?;
    expect(
        "a user who has not agreed to it",
        &hidden,
        &[IdentifierQueryCode::NOT_FOUND],
    )?;
    ctx.check("nobody learns who is a user", hidden == first, || format!("{hidden:?}"))?;
    for kind in [
        SearchIdentifierType::NICK,
        SearchIdentifierType::PARTIAL_NAME,
        SearchIdentifierType::WHOLE_PROFILE,
    ] {
        for value in [ctx.tag(), &user] {
            let in_part = ask(vec![QueryElement {
                search: SearchField::Other(kind),
                search_value: value.into(),
            }])
            .await?;
            let refusals = [IdentifierQueryCode::NOT_FOUND, IdentifierQueryCode::UNSUPPORTED_FIELD];
            expect("a part of what is known of them", &in_part, &refusals)?;
        }
    }
    let both = ask(vec![handle(&user), handle(&nobody)]).await?;
    expect("two handles at once", &both, &[IdentifierQueryCode::NOT_FOUND])?;
    if let Some(found) = says_what_finds_them(ctx).await? {
        let answer = ask(vec![handle(&found.handle)]).await?;
        expect(
            "a handle that may be searched for",
            &answer,
            &[IdentifierQueryCode::SUCCESS],
        )?;
        let is_it = answer.uri.len() == 1 && answer.uri[0].as_str() == found.user;
        ctx.check("it is that user", is_it, || format!("{:?}", answer.uri))?;
        let shown = format!("{:?}", answer.found_profiles);
        ctx.check("what is hidden is not shown", !shown.contains(&found.hidden), || {
            shown.clone()
        })?;
        let by_nick = ask(vec![QueryElement {
            search: SearchField::Other(SearchIdentifierType::NICK),
            search_value: found.hidden.as_str().into(),
        }])
        .await?;
        expect("a nickname that may not", &by_nick, &[IdentifierQueryCode::NOT_FOUND])?;
        // A handle needs to match exactly: the user part alone names nobody.
        let in_part = ask(vec![handle(&found.part_of_handle)]).await?;
        expect("a part of that handle", &in_part, &[IdentifierQueryCode::AMBIGUOUS])?;
        let shorter = &found.handle[..found.handle.len() - 1];
        let shorter = ask(vec![handle(shorter)]).await?;
        let refusals = [IdentifierQueryCode::NOT_FOUND, IdentifierQueryCode::AMBIGUOUS];
        expect("that handle less a letter", &shorter, &refusals)?;
        let by_name = ask(vec![QueryElement {
            search: SearchField::Other(SearchIdentifierType::PARTIAL_NAME),
            search_value: found.part_of_name.as_str().into(),
        }])
        .await?;
        expect(
            "a part of a name that may be searched for in part",
            &by_name,
            &[IdentifierQueryCode::SUCCESS],
        )?;
        let is_it = by_name.uri.len() == 1 && by_name.uri[0].as_str() == found.user;
        ctx.check("it is that user, too", is_it, || format!("{:?}", by_name.uri))?;
    }
    let everybody = ask(Vec::new()).await?;
    let refusals = [
        IdentifierQueryCode::FORBIDDEN,
        IdentifierQueryCode::AMBIGUOUS,
        IdentifierQueryCode::NOT_FOUND,
    ];
    expect("no condition", &everybody, &refusals)?;
    let vcard = ask(vec![QueryElement {
        search: SearchField::VcardField {
            property_name: "X-NO-SUCH-PROPERTY".into(),
        },
        search_value: "x".into(),
    }])
    .await?;
    expect(
        "a property that is none",
        &vcard,
        &[IdentifierQueryCode::UNSUPPORTED_FIELD],
    )?;
    let request = IdentifierRequest {
        query_elements: vec![handle(&nobody)],
        id_request_extensions: AppDataDictionary::default(),
    };
    let reply = ctx
        .mimi(0)
        .call(Endpoint::IdentifierQuery, "elsewhere.example", request.to_bytes())
        .await?;
    let is_refused = (400..500).contains(&reply.status);
    ctx.check("another domain: refused", is_refused, || reply.brief())
}

/// A user of the subject who has said what they are found by.
struct Findable {
    user: String,
    /// They are found by this.
    handle: String,
    /// The user part of that; it is no handle.
    part_of_handle: String,
    /// By this, which is in their name.
    part_of_name: String,
    /// By their nickname they are not, and it is not shown.
    hidden: String,
}

/// `None` if the subject has no way for a user to say so.
async fn says_what_finds_them(ctx: &Ctx) -> Checked<Option<Findable>> {
    let (user, _) = user_with(ctx, "findable", &[("phone", 1)]).await?;
    let part_of_handle = format!("{}-findable", ctx.tag());
    let handle = format!("im:{part_of_handle}@{}", ctx.subject_domain());
    let part_of_name = format!("{}mar", ctx.tag());
    let hidden = format!("{}-hidden", ctx.tag());
    let field = |kind: &str, value: &str, searchable: &str| {
        Json::from(object! { "kind" => kind, "value" => value, "searchable" => searchable, "shown" => false })
    };
    let name = object! {
        "kind" => "claim", "name" => "given_name", "value" => format!("{part_of_name}ia"), "searchable" => "in_part", "shown" => false,
    };
    let fields = vec![
        field("handle", &handle, "exactly"),
        field("nick", &hidden, "never"),
        Json::from(name),
    ];
    let body = object! { "fields" => fields };
    let local = ctx.local(&user)?;
    let reply = ctx.subject().api(&local, "PUT", "/mimi/profile", Some(&body)).await?;
    match reply.status {
        200 => Ok(Some(Findable {
            user,
            handle,
            part_of_handle,
            part_of_name,
            hidden,
        })),
        404 => {
            ctx.observe("whom the subject lets be found is not to be said here");
            Ok(None)
        }
        _ => failed("client API PUT /mimi/profile: 200", reply.brief()),
    }
}
