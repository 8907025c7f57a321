//! Bob is found by some of his fields, by others not; Cathy is at another provider.

use nabe_store::{Store as _, Write};
use nabe_types::{UnixMillis, UserId};

use super::*;
use crate::client::testing::server;
use crate::mimi::users::testing::{BOB, NOBODY, Providers, uri};

const BOBINA: &str = "mimi://b.example/u/bobina";

fn entry(name: ProfileFieldName, value: &str, searchable: Searchable, shown: bool) -> ProfileEntry {
    ProfileEntry {
        name,
        value: value.to_owned(),
        searchable,
        shown,
    }
}

fn claim(name: &str, value: &str, searchable: Searchable) -> ProfileEntry {
    entry(ProfileFieldName::Claim(name.to_owned()), value, searchable, true)
}

fn property(name: &str, value: &str, searchable: Searchable) -> ProfileEntry {
    entry(ProfileFieldName::Property(name.to_owned()), value, searchable, false)
}

async fn directory() -> Providers {
    let providers = Providers::new().await;
    let account = Write::PutAccount {
        user: UserId::parse("@bobina:b.example").unwrap(),
        created_at: UnixMillis::ZERO,
        token_hash: None,
        device: None,
    };
    let mut done = providers.store("b").commit(vec![account.into()]).await.unwrap();
    done.remove(0).unwrap();
    let bob = vec![
        entry(ProfileFieldName::Handle, "im:bob@b.example", Searchable::Exactly, false),
        entry(ProfileFieldName::Email, "bob@mail.example", Searchable::Never, false),
        claim("given_name", "Robert", Searchable::InPart),
        claim("family_name", "Smith", Searchable::Exactly),
        property("ORG", "Acme", Searchable::InPart),
    ];
    let bobina = vec![
        claim("given_name", "Roberta", Searchable::InPart),
        claim("family_name", "Jones", Searchable::Exactly),
        property("ORG", "Acme", Searchable::InPart),
        claim("nickname", "bobby", Searchable::Exactly),
        property("Nickname", "bee", Searchable::Exactly),
        entry(ProfileFieldName::Nick, "ina", Searchable::Exactly, false),
        entry(ProfileFieldName::Phone, "+4930123", Searchable::Exactly, false),
        entry(
            ProfileFieldName::Handle,
            "im:roberta@b.example",
            Searchable::Never,
            false,
        ),
    ];
    for (user, profile) in [(BOB, bob), (BOBINA, bobina)] {
        providers
            .mimi("b")
            .put_profile(&uri(user), profile, ProfileSource::Provider)
            .await
            .unwrap();
    }
    providers
}

fn condition(search_type: SearchIdentifierType, value: &str) -> QueryElement {
    QueryElement {
        search: SearchField::Other(search_type),
        search_value: Text(value.to_owned()),
    }
}

fn by_claim(name: &str, value: &str) -> QueryElement {
    QueryElement {
        search: SearchField::OidcStdClaim {
            claim_name: Text(name.to_owned()),
        },
        search_value: Text(value.to_owned()),
    }
}

fn by_property(name: &str, value: &str) -> QueryElement {
    QueryElement {
        search: SearchField::VcardField {
            property_name: Text(name.to_owned()),
        },
        search_value: Text(value.to_owned()),
    }
}

async fn ask(providers: &Providers, query_elements: Vec<QueryElement>) -> IdentifierResponse {
    let request = IdentifierRequest {
        query_elements,
        id_request_extensions: AppDataDictionary::default(),
    };
    let (from, domain) = (server("c"), server("b"));
    providers.mimi("b").find(&from, &domain, &request).await.unwrap()
}

/// Who is found, or the code.
async fn found(providers: &Providers, query: Vec<QueryElement>) -> Result<Vec<String>, IdentifierQueryCode> {
    let answer = ask(providers, query).await;
    let users: Vec<_> = answer.uri.iter().map(ToString::to_string).collect();
    let profiles: Vec<_> = answer
        .found_profiles
        .iter()
        .map(|found| found.stable_uri.to_string())
        .collect();
    assert_eq!(users, profiles);
    match answer.response_code {
        IdentifierQueryCode::SUCCESS => Ok(users),
        code => Err(code),
    }
}

#[tokio::test]
async fn whole_fields_match_exactly_and_names_and_profiles_in_part() {
    use SearchIdentifierType as Type;
    let providers = directory().await;
    let found = async |element| found(&providers, vec![element]).await;
    let (bob, both) = (vec![BOB.to_owned()], vec![BOB.to_owned(), BOBINA.to_owned()]);
    assert_eq!(
        found(condition(Type::HANDLE, "im:bob@b.example")).await,
        Ok(bob.clone())
    );
    assert_eq!(
        found(condition(Type::HANDLE, "im:bob@b")).await,
        Err(IdentifierQueryCode::NOT_FOUND)
    );
    assert_eq!(
        found(condition(Type::HANDLE, "bob")).await,
        Err(IdentifierQueryCode::AMBIGUOUS)
    );
    let bobina = Ok(vec![BOBINA.to_owned()]);
    assert_eq!(found(condition(Type::PHONE, "+4930123")).await, bobina);
    assert_eq!(
        found(condition(Type::PHONE, "+493012")).await,
        Err(IdentifierQueryCode::NOT_FOUND)
    );
    // A nickname, wherever it stands, or the user part of a handle.
    assert_eq!(found(condition(Type::NICK, "bob")).await, Ok(bob.clone()));
    for nick in ["ina", "bobby", "bee"] {
        assert_eq!(found(condition(Type::NICK, nick)).await, bobina, "{nick}");
    }
    for nick in ["Bob", "im:bob@b.example", "roberta", "Acme", "Jones"] {
        let nobody = Err(IdentifierQueryCode::NOT_FOUND);
        assert_eq!(found(condition(Type::NICK, nick)).await, nobody, "{nick}");
    }
    assert_eq!(found(condition(Type::PARTIAL_NAME, "ROBERT")).await, Ok(both.clone()));
    assert_eq!(
        found(condition(Type::PARTIAL_NAME, "acm")).await,
        Err(IdentifierQueryCode::NOT_FOUND)
    );
    assert_eq!(found(condition(Type::WHOLE_PROFILE, "acm")).await, Ok(both.clone()));
    assert_eq!(
        found(condition(Type::WHOLE_PROFILE, "ac")).await,
        Err(IdentifierQueryCode::AMBIGUOUS)
    );
    assert_eq!(found(by_claim("given_name", "Robert")).await, Ok(bob));
    assert_eq!(
        found(by_claim("given_name", "robert")).await,
        Err(IdentifierQueryCode::NOT_FOUND)
    );
    assert_eq!(found(by_property("org", "Acme")).await, Ok(both));
}

#[tokio::test]
async fn who_is_found_meets_all_conditions() {
    let providers = directory().await;
    let part = || condition(SearchIdentifierType::PARTIAL_NAME, "robert");
    let both = vec![part(), by_claim("family_name", "Jones")];
    assert_eq!(found(&providers, both).await, Ok(vec![BOBINA.to_owned()]));
    let none = vec![part(), by_claim("family_name", "Brown")];
    assert_eq!(found(&providers, none).await, Err(IdentifierQueryCode::NOT_FOUND));
}

#[tokio::test]
async fn only_fields_that_users_let_be_searched_are_and_only_those_they_show_are_shown() {
    let providers = directory().await;
    let hidden = condition(SearchIdentifierType::EMAIL, "bob@mail.example");
    assert_eq!(
        found(&providers, vec![hidden]).await,
        Err(IdentifierQueryCode::NOT_FOUND)
    );
    // To be searched for as a whole is not to be searched for in part.
    let part = condition(SearchIdentifierType::PARTIAL_NAME, "smit");
    assert_eq!(found(&providers, vec![part]).await, Err(IdentifierQueryCode::NOT_FOUND));
    let answer = ask(&providers, vec![by_claim("family_name", "Smith")]).await;
    let fields = answer.found_profiles[0].fields.iter();
    let fields: Vec<_> = fields.map(|field| (field.field_source, &*field.field_name.0)).collect();
    let claim = FieldSource::OIDC_STD_CLAIM;
    assert_eq!(fields, [(claim, "given_name"), (claim, "family_name")]);
}

#[tokio::test]
async fn what_cannot_be_asked_says_why() {
    let providers = directory().await;
    let query = async |elements| found(&providers, elements).await;
    assert_eq!(query(Vec::new()).await, Err(IdentifierQueryCode::FORBIDDEN));
    let unknown = condition(SearchIdentifierType(99), "x");
    assert_eq!(query(vec![unknown]).await, Err(IdentifierQueryCode::UNSUPPORTED_FIELD));
    assert_eq!(
        query(vec![by_property("PHOTO", "x")]).await,
        Err(IdentifierQueryCode::UNSUPPORTED_FIELD)
    );
    assert_eq!(
        query(vec![by_claim("picture", "x")]).await,
        Err(IdentifierQueryCode::UNSUPPORTED_FIELD)
    );
    let request = IdentifierRequest {
        query_elements: vec![by_claim("family_name", "Smith")],
        id_request_extensions: AppDataDictionary::default(),
    };
    let elsewhere = providers.mimi("b").find(&server("c"), &server("a"), &request).await;
    assert!(matches!(elsewhere, Err(MimiError::Unknown("domain"))), "{elsewhere:?}");
}

#[tokio::test]
async fn more_than_can_be_told_is_ambiguous() {
    let providers = directory().await;
    for number in 0..=MAX_FOUND {
        let name = format!("user{number}");
        let account = Write::PutAccount {
            user: UserId::parse(&format!("@{name}:b.example")).unwrap(),
            created_at: UnixMillis::ZERO,
            token_hash: None,
            device: None,
        };
        providers
            .store("b")
            .commit(vec![account.into()])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        let profile = vec![claim("name", "Namesake", Searchable::InPart)];
        let user = uri(&format!("mimi://b.example/u/{name}"));
        providers
            .mimi("b")
            .put_profile(&user, profile, ProfileSource::Provider)
            .await
            .unwrap();
    }
    let many = vec![condition(SearchIdentifierType::PARTIAL_NAME, "namesake")];
    assert_eq!(found(&providers, many).await, Err(IdentifierQueryCode::AMBIGUOUS));
}

#[tokio::test]
async fn a_profile_is_a_user_s_and_bounded() {
    let providers = directory().await;
    let mimi = providers.mimi("b");
    let unknown = mimi
        .put_profile(&uri(NOBODY), Vec::new(), ProfileSource::Provider)
        .await;
    assert!(matches!(unknown, Err(MimiError::Unknown("user"))), "{unknown:?}");
    let long = "x".repeat(MAX_VALUE_BYTES + 1);
    for profile in [
        vec![claim("name", &long, Searchable::Never)],
        vec![claim("name", "x", Searchable::Never); 101],
        vec![claim(&"x".repeat(65), "x", Searchable::Never)],
        vec![claim("name", &"x".repeat(1000), Searchable::Never); 40],
    ] {
        let refused = mimi.put_profile(&uri(BOB), profile, ProfileSource::Provider).await;
        assert!(
            matches!(refused, Err(MimiError::Invalid { field: "profile", .. })),
            "{refused:?}"
        );
    }
    assert_eq!(mimi.profile(&uri(BOB)).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_user_says_of_an_address_who_finds_it_and_not_whose_it_is() {
    let providers = directory().await;
    let mimi = providers.mimi("b");
    let put = async |profile| mimi.put_profile(&uri(BOB), profile, ProfileSource::User).await;
    let email = |value, searchable| entry(ProfileFieldName::Email, value, searchable, false);
    put(vec![
        email("bob@mail.example", Searchable::Exactly),
        claim("given_name", "Bobby", Searchable::InPart),
    ])
    .await
    .unwrap();
    let by_email = |value| vec![condition(SearchIdentifierType::EMAIL, value)];
    assert_eq!(found(&providers, by_email("bob@mail.example")).await.unwrap(), [BOB]);
    for brought in [
        email("ceo@mail.example", Searchable::Exactly),
        entry(ProfileFieldName::Handle, "im:ceo@b.example", Searchable::Exactly, false),
        entry(ProfileFieldName::Phone, "+4930123", Searchable::Exactly, false),
        claim("email", "ceo@mail.example", Searchable::Exactly),
        property("tel", "+4930123", Searchable::Exactly),
        property("item1.EMAIL", "ceo@mail.example", Searchable::Exactly),
        claim("email_verified", "true", Searchable::Never),
    ] {
        let refused = put(vec![brought]).await;
        assert!(matches!(refused, Err(MimiError::Forbidden(_))), "{refused:?}");
    }
    assert_eq!(mimi.profile(&uri(BOB)).await.unwrap().len(), 2, "it stays as it was");
}

/// Both are under way at once: what the user's change was made on is gone when it is to be kept.
#[tokio::test]
async fn an_address_that_the_provider_takes_away_does_not_come_back_with_what_the_user_changes_meanwhile() {
    let providers = directory().await;
    let (mimi, bob) = (providers.mimi("b"), uri(BOB));
    let email = entry(ProfileFieldName::Email, "bob@mail.example", Searchable::Exactly, false);
    let (taken, kept) = tokio::join!(
        mimi.put_profile(&bob, Vec::new(), ProfileSource::Provider),
        mimi.put_profile(&bob, vec![email], ProfileSource::User),
    );
    taken.unwrap();
    assert!(matches!(kept, Err(MimiError::Forbidden(_))), "{kept:?}");
    assert_eq!(mimi.profile(&bob).await.unwrap(), []);
}

#[tokio::test]
async fn a_user_looks_for_others_at_their_provider_and_at_another() {
    let providers = directory().await;
    let request = |value| IdentifierRequest {
        query_elements: vec![condition(SearchIdentifierType::HANDLE, value)],
        id_request_extensions: AppDataDictionary::default(),
    };
    for asked in ["a", "b"] {
        let mimi = providers.mimi(asked);
        let answer = mimi.search(&server("b"), &request("im:bob@b.example")).await.unwrap();
        assert_eq!(answer.response_code, IdentifierQueryCode::SUCCESS, "{asked}");
        assert_eq!(answer.uri, [identifier(&uri(BOB))], "{asked}");
        let nobody = mimi.search(&server("b"), &request("im:eve@b.example")).await.unwrap();
        assert_eq!(nobody.response_code, IdentifierQueryCode::NOT_FOUND, "{asked}");
    }
}

/// Nor does the time tell that an answer takes: a field that is not searched for costs what costs one that nobody has.
#[tokio::test]
async fn as_much_is_done_for_what_a_user_hides_as_for_what_nobody_has() {
    use SearchIdentifierType as Type;
    let providers = directory().await;
    let looked_up = async |query: Vec<QueryElement>| {
        let before = providers.store("b").lookups();
        let answer = ask(&providers, query).await;
        (answer, providers.store("b").lookups() - before)
    };
    let email = |address: &str| condition(Type::EMAIL, address);
    let handle = || condition(Type::HANDLE, "im:bob@b.example");
    // By itself, and beside a field by which Bob is found.
    let hidden = looked_up(vec![email("bob@mail.example")]).await;
    assert_eq!(hidden.0.response_code, IdentifierQueryCode::NOT_FOUND);
    assert_eq!(looked_up(vec![email("nobody@mail.example")]).await, hidden);
    let hidden = looked_up(vec![handle(), email("bob@mail.example")]).await;
    assert_eq!(hidden.0.response_code, IdentifierQueryCode::NOT_FOUND);
    assert_eq!(looked_up(vec![handle(), email("nobody@mail.example")]).await, hidden);
    // A whole name is not found by a part of it, wherever that part is.
    let part = |part: &str| vec![condition(Type::PARTIAL_NAME, part)];
    let hidden = looked_up(part("Smit")).await;
    assert_eq!(hidden.0.response_code, IdentifierQueryCode::NOT_FOUND);
    assert_eq!(looked_up(part("Nobo")).await, hidden);
    // What is counted would show it.
    assert!(looked_up(vec![handle()]).await.1 > looked_up(vec![condition(Type::HANDLE, "im:no@b.example")]).await.1);
}
