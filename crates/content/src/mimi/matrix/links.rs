//! Links to users, as either side writes them.

use std::collections::BTreeSet;

use nabe_types::UserId;

/// Links to users by MIMI URIs, as `matrix.to` has them.
pub(super) fn mentions_to_matrix(text: &str, mentioned: &mut BTreeSet<UserId>) -> String {
    replace_links(text, "mimi://", |link| {
        let target = target(link);
        let (host, local) = target.split_once("/u/")?;
        let user = UserId::parse(&format!("@{local}:{host}")).ok()?;
        let link = format!("{MATRIX_TO}{}", user.as_str());
        mentioned.insert(user);
        Some((target.len(), link))
    })
}

/// Links to users as `matrix.to` has them, by MIMI URIs, which need no servers to ask for the user.
pub(super) fn mentions_to_mimi(text: &str, linked: &mut BTreeSet<UserId>) -> String {
    replace_links(text, MATRIX_TO, |link| {
        let target = target(link);
        let user = UserId::parse(&percent_decoded(target)?).ok()?;
        let uri = format!("mimi://{}/u/{}", user.server_name().as_str(), user.localpart());
        linked.insert(user);
        let query = link.get(target.len()..).and_then(|rest| rest.strip_prefix('?'));
        let has_query = query.is_some_and(|query| query.starts_with(|c: char| c.is_ascii_alphanumeric()));
        Some((if has_query { link.len() } else { target.len() }, uri))
    })
}

/// Without query and entities.
fn target(link: &str) -> &str {
    link.split(['?', '&']).next().unwrap_or_default()
}

/// `None` if it is no UTF-8, or what follows a `%` no two digits.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        out.push(u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?);
        rest = after;
    }
    String::from_utf8(out).ok()
}

/// Replaces links that begin with `prefix`. What follows the prefix is given to `replace`, up to where the link ends, and replaced as
/// far as it says by what it says.
fn replace_links(text: &str, prefix: &str, mut replace: impl FnMut(&str) -> Option<(usize, String)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (before, link) = rest.split_at(at);
        let inside = link.get(prefix.len()..).unwrap_or_default();
        let end = inside
            .find(|c: char| c.is_whitespace() || "\"'()<>[]#\\".contains(c))
            .unwrap_or(inside.len());
        let (link, after) = inside.split_at(end);
        out.push_str(before);
        let (replaced, new) = replace(link).unwrap_or_else(|| (0, prefix.to_owned()));
        let (_, kept) = link.split_at_checked(replaced).unwrap_or_default();
        out.push_str(&new);
        out.push_str(kept);
        rest = after;
    }
    out.push_str(rest);
    out
}

const MATRIX_TO: &str = "https://matrix.to/#/";
