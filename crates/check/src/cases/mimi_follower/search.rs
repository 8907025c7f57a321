//! Case 73: who is meant (MIMI #find-internal-address). Whom the subject lets be found is between it and its users, so nobody is found here;
//! what it says then is checked.

use nabe_wire::Encode as _;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::directory::Endpoint;
use nabe_wire::identifier_query::{
    IdentifierQueryCode, IdentifierRequest, IdentifierResponse, QueryElement, SearchField, SearchIdentifierType,
};

use super::keys::user_with;
use crate::case::{Case, Checked, Peers, Suite};
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
    sent: "queries for a handle that nobody has, twice; for a user who has not said that they may be found; without a condition; for a \
           vCard property that is none; and for another domain",
    expected: "notFound and the same again; notFound; forbidden, ambiguous or notFound; unsupportedField; a refusal of the 400s",
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
