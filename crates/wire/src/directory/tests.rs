use super::*;

#[test]
fn endpoints_are_found_by_the_names_of_the_directory() {
    for endpoint in Endpoint::ALL {
        assert_eq!(Endpoint::named(endpoint.name()), Some(endpoint));
    }
    assert_eq!(Endpoint::named("KeyMaterial"), None);
    assert_eq!(Endpoint::named("ohttpGateway"), None);
}

#[test]
fn only_downloads_are_fetched_by_get() {
    let by_get: Vec<_> = Endpoint::ALL
        .into_iter()
        .filter(|endpoint| endpoint.method() == "GET")
        .collect();
    assert_eq!(by_get, [Endpoint::ProxyDownload]);
}

#[test]
fn what_must_not_be_there_twice_is_not_repeated() {
    let once: Vec<_> = Endpoint::ALL
        .into_iter()
        .filter(|endpoint| !endpoint.may_be_repeated())
        .map(Endpoint::name)
        .collect();
    assert_eq!(once, ["keyMaterial", "update", "submitMessage", "reportAbuse"]);
}

#[test]
fn a_uri_becomes_one_segment() {
    let template = Template::parse(Endpoint::Notify, "https://mimi.example.com/v1/notify/{roomId}").unwrap();
    assert_eq!(
        template.expand("mimi://a.example/r/clubhouse"),
        "https://mimi.example.com/v1/notify/mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse"
    );
    // An escape in the URI is escaped again: it is taken off once.
    assert_eq!(
        template.expand("mimi://a.example/r/club%20house~ä"),
        "https://mimi.example.com/v1/notify/mimi%3A%2F%2Fa.example%2Fr%2Fclub%2520house~%C3%A4"
    );
}

#[test]
fn the_drafts_own_templates_are_read_and_written_the_same() {
    for (endpoint, template) in [
        (
            Endpoint::KeyMaterial,
            "https://mimi.example.com/v1/keyMaterial/{targetUser}",
        ),
        // The slash is missing in the draft.
        (Endpoint::Update, "https://mimi.example.com/v1/update{roomId}"),
        (
            Endpoint::RequestConsent,
            "https://mimi.example.com/v1/requestConsent/{targetUser}",
        ),
        (
            Endpoint::RequestConsent,
            "https://a.example/requestConsent/{targetDomain}",
        ),
        (
            Endpoint::UpdateConsent,
            "https://a.example/updateConsent/{requesterDomain}",
        ),
        (Endpoint::IdentifierQuery, "https://a.example:8443/q?of={domain}&x=%20"),
        (Endpoint::ProxyDownload, "https://a.example/{downloadUrl}/file"),
    ] {
        assert_eq!(Template::parse(endpoint, template).unwrap().to_string(), template);
    }
}

#[test]
fn what_is_no_template_of_the_endpoint_is_refused() {
    let long = format!("https://a.example/{}{{roomId}}", "x".repeat(MAX_TEMPLATE_LEN));
    for (template, error) in [
        ("", TemplateError::NotHttps),
        ("http://a.example/{roomId}", TemplateError::NotHttps),
        ("HTTPS://a.example/{roomId}", TemplateError::NotHttps),
        ("https:///{roomId}", TemplateError::NotHttps),
        ("/update/{roomId}", TemplateError::NotHttps),
        ("https://a.example/update", TemplateError::NotOneExpression),
        ("https://{roomId}", TemplateError::NotOneExpression),
        ("https://{roomId}.example/update", TemplateError::NotOneExpression),
        ("https://a.example/{roomId}/{roomId}", TemplateError::NotOneExpression),
        ("https://a.example/{roomId", TemplateError::Malformed),
        ("https://a.example/roomId}{roomId}", TemplateError::Malformed),
        ("https://a.example/{roomId}}", TemplateError::Malformed),
        ("https://a.example/a b/{roomId}", TemplateError::Malformed),
        ("https://a.example/%2/{roomId}", TemplateError::Malformed),
        ("https://a.example/{roomId}#x", TemplateError::Malformed),
        ("https://a.example/ä/{roomId}", TemplateError::Malformed),
        ("https://a.example/{}", TemplateError::OtherVariable),
        ("https://a.example/{room}", TemplateError::OtherVariable),
        ("https://a.example/{+roomId}", TemplateError::OtherVariable),
        ("https://a.example/{roomId*}", TemplateError::OtherVariable),
        ("https://a.example/{roomId,x}", TemplateError::OtherVariable),
        (&long, TemplateError::TooLong),
    ] {
        assert_eq!(Template::parse(Endpoint::Update, template), Err(error), "{template}");
    }
}

#[test]
fn templates_of_a_server_stand_below_its_base() {
    for endpoint in Endpoint::ALL {
        let template = Template::below("https://mimi.a.example/_mimi/v1", endpoint).unwrap();
        let expected = format!(
            "https://mimi.a.example/_mimi/v1/{}/{{{}}}",
            endpoint.name(),
            endpoint.variable()
        );
        assert_eq!(template.to_string(), expected);
    }
    assert_eq!(
        Template::below("http://a.example", Endpoint::Update),
        Err(TemplateError::NotHttps)
    );
}
