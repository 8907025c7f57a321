//! Who is found by what (MIMI #find-internal-address): the user's profile, and the search for others.

use std::fs;

use anyhow::{Context as _, bail};
use nabe_wire::identifier_query::{
    IdentifierQueryCode, IdentifierRequest, QueryElement, SearchField, SearchIdentifierType,
};
use serde_json::json;

use super::args::{Find, Known, ProfileCommand};
use crate::client::{mimi_http::MimiHttp, result, show::Style};

pub(super) async fn profile(transport: &MimiHttp, command: ProfileCommand, style: Style) -> anyhow::Result<()> {
    match command {
        ProfileCommand::Show => {
            let profile = transport.profile().await?;
            let pretty = serde_json::to_string_pretty(&profile)?;
            result(style, profile, || pretty);
        }
        ProfileCommand::Put { file } => {
            let profile = fs::read(&file).with_context(|| file.display().to_string())?;
            transport.put_profile(&profile).await?;
        }
    }
    Ok(())
}

/// One line for each user, with what they let be seen.
pub(super) async fn find(transport: &MimiHttp, Find { provider, by }: Find, style: Style) -> anyhow::Result<()> {
    let request = IdentifierRequest {
        query_elements: conditions(by),
        id_request_extensions: Default::default(),
    };
    let answer = transport.find(&provider, &request).await?;
    match answer.response_code {
        IdentifierQueryCode::SUCCESS => {}
        IdentifierQueryCode::NOT_FOUND => bail!("{provider} knows nobody like that who lets themselves be found"),
        IdentifierQueryCode::AMBIGUOUS => bail!("{provider} needs to know more"),
        IdentifierQueryCode::FORBIDDEN => bail!("{provider} is not to be asked that"),
        IdentifierQueryCode::UNSUPPORTED_FIELD => bail!("{provider} does not search by one of these"),
        code => bail!("{provider} answers with the code {}", code.0),
    }
    // What other providers say goes to a terminal.
    let readable = |text: &str| text.chars().filter(|char| !char.is_control()).collect::<String>();
    for user in &answer.uri {
        let profiles = answer.found_profiles.iter();
        let fields = profiles
            .filter(|profile| profile.stable_uri == *user)
            .flat_map(|profile| &profile.fields);
        let shown: Vec<(String, String)> = fields
            .map(|field| {
                (
                    readable(&field.field_name.0),
                    readable(&String::from_utf8_lossy(&field.field_value)),
                )
            })
            .collect();
        let object = json!({ "user": user.as_str(), "shown": shown });
        result(style, object, || {
            let shown: Vec<_> = shown.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            format!("{}  {}", user.as_str(), shown.join(", ")).trim_end().to_owned()
        });
    }
    Ok(())
}

fn conditions(by: Known) -> Vec<QueryElement> {
    let plain = [
        (SearchIdentifierType::HANDLE, by.handle),
        (SearchIdentifierType::NICK, by.nick),
        (SearchIdentifierType::EMAIL, by.email),
        (SearchIdentifierType::PHONE, by.phone),
        (SearchIdentifierType::PARTIAL_NAME, by.name),
        (SearchIdentifierType::WHOLE_PROFILE, by.anything),
    ];
    let plain = plain.into_iter().flat_map(|(kind, values)| {
        let field = move |value| (SearchField::Other(kind), value);
        values.into_iter().map(field)
    });
    let claims = by.claim.into_iter().map(|(name, value)| {
        let claim_name = name.as_str().into();
        (SearchField::OidcStdClaim { claim_name }, value)
    });
    let properties = by.property.into_iter().map(|(name, value)| {
        let property_name = name.as_str().into();
        (SearchField::VcardField { property_name }, value)
    });
    let all = plain.chain(claims).chain(properties);
    let element = |(search, value): (SearchField, String)| QueryElement {
        search,
        search_value: value.as_str().into(),
    };
    all.map(element).collect()
}
