//! Which parts of a message to process, and in which order (MC #message-bodies): of alternatives the one the receiver likes best,
//! of a unit all or nothing, of the rest what can be processed; and nothing twice that another part already shows.
//!
//! ```
//! use nabe_content::mimi::choose::{Preferences, choose};
//! use nabe_content::mimi::{NestedPart, PartSemantics};
//!
//! let body = NestedPart::multi(
//!     PartSemantics::ChooseOne,
//!     vec![NestedPart::markdown("# Welcome!"), NestedPart::single("application/vnd.example", [0xdc, 0x86])],
//! );
//! let chosen = choose(&body, &Preferences::new(&["text/markdown", "text/plain"], &["en"]));
//! assert_eq!(chosen.iter().map(|step| step.index.0).collect::<Vec<_>>(), [1]);
//! ```

use super::part::{NestedPart, Part, PartIndex, PartSemantics};
use crate::media_type::MediaType;

/// What a receiver can process and likes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Preferences {
    media_types: Vec<String>,
    languages: Vec<String>,
}

impl Preferences {
    /// Media types without parameters, the favorite first; `image/*` stands for all images. What is in none of them is not
    /// supported. Languages as RFC 4647 has them (`en` includes `en-GB`), the favorite first; others are accepted last.
    #[must_use]
    pub fn new(media_types: &[&str], languages: &[&str]) -> Self {
        let lower = |list: &[&str]| list.iter().map(|entry| entry.to_ascii_lowercase()).collect();
        Self {
            media_types: lower(media_types),
            languages: lower(languages),
        }
    }

    /// How much this type is liked, 0 the most; `None` if it is not supported.
    fn media_type_rank(&self, content_type: &str) -> Option<usize> {
        let media_type = MediaType::parse(content_type).ok()?;
        let essence = media_type.essence();
        if essence.starts_with("text/") && !is_utf8(media_type.as_str()) {
            return None;
        }
        self.media_types.iter().position(|entry| match entry.strip_suffix('*') {
            Some(kind) => essence.starts_with(kind),
            None => essence == entry,
        })
    }

    /// A part in no language is fine for everybody.
    fn language_rank(&self, part: &NestedPart) -> usize {
        let rank = |tag: &str| {
            let tag = tag.to_ascii_lowercase();
            let found = self.languages.iter().position(|range| {
                let rest = tag.strip_prefix(range.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            });
            found.unwrap_or(self.languages.len())
        };
        part.language.tags().map(rank).min().unwrap_or(0)
    }
}

/// Text in another charset than UTF-8 cannot be read here; US-ASCII is UTF-8, too.
pub(super) fn is_utf8(media_type: &str) -> bool {
    media_type.split(';').skip(1).all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || value.eq_ignore_ascii_case("utf-8")
            || value.eq_ignore_ascii_case("us-ascii")
    })
}

/// A part to process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step<'a> {
    /// Its index in the message.
    pub index: PartIndex,
    /// The part: single, external or empty.
    pub part: &'a NestedPart,
    /// It is one of a unit that is of no use without the others.
    pub in_unit: bool,
}

/// The parts to process, in order. Empty if the message has nothing that can be processed.
#[must_use]
pub fn choose<'a>(body: &'a NestedPart, preferences: &Preferences) -> Vec<Step<'a>> {
    let mut next = 0;
    let chosen = visit(body, preferences, &mut next, false);
    let mut steps: Vec<Step<'a>> = Vec::new();
    let mut referenced = Vec::new();
    for step in chosen.map(|chosen| chosen.steps).unwrap_or_default() {
        if !referenced.contains(&step.index) {
            referenced.extend(step.part.references());
            steps.push(step);
        }
    }
    steps
}

/// What a part comes down to.
struct Chosen<'a> {
    steps: Vec<Step<'a>>,
    /// Of the parts, the worst rank of language, then of media type.
    rank: (usize, usize),
}

/// `None` if the part cannot be processed. `next` is the index of this part and moves past all its parts. Recursion is bounded by the
/// four levels a message may have.
fn visit<'a>(part: &'a NestedPart, preferences: &Preferences, next: &mut u32, in_unit: bool) -> Option<Chosen<'a>> {
    let index = PartIndex(*next);
    *next += 1;
    let media_type_rank = match &part.part {
        Part::Null => Some(0),
        Part::Single(single) => preferences.media_type_rank(&single.content_type),
        // A link that says nothing of a type, to a session or a place, can be offered to the user as it is.
        Part::External(external) if external.content_type.is_empty() => Some(0),
        Part::External(external) => preferences.media_type_rank(&external.content_type),
        Part::Multi(multi) => {
            let in_unit = in_unit || multi.semantics == PartSemantics::SingleUnit;
            // All are visited, so that `next` is right.
            let visited: Vec<_> = multi
                .parts
                .iter()
                .map(|part| visit(part, preferences, next, in_unit))
                .collect();
            return match multi.semantics {
                // The first of the best: the sender's order decides among what the receiver likes equally.
                PartSemantics::ChooseOne => visited.into_iter().flatten().min_by_key(|chosen| chosen.rank),
                PartSemantics::SingleUnit => {
                    let all: Option<Vec<_>> = visited.into_iter().collect();
                    together(all?, preferences.language_rank(part))
                }
                PartSemantics::ProcessAll => {
                    together(visited.into_iter().flatten().collect(), preferences.language_rank(part))
                }
            };
        }
    };
    Some(Chosen {
        steps: vec![Step { index, part, in_unit }],
        rank: (preferences.language_rank(part), media_type_rank?),
    })
}

fn together(chosen: Vec<Chosen<'_>>, language_rank: usize) -> Option<Chosen<'_>> {
    let rank = chosen.iter().fold((language_rank, 0), |rank, chosen| {
        (rank.0.max(chosen.rank.0), rank.1.max(chosen.rank.1))
    });
    let steps: Vec<_> = chosen.into_iter().flat_map(|chosen| chosen.steps).collect();
    (!steps.is_empty()).then_some(Chosen { steps, rank })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mimi::{Disposition, ExternalPart, Languages};

    fn html(language: &str, text: &str) -> NestedPart {
        NestedPart::html(text).with_language(Languages::new(language).unwrap())
    }

    /// English or French text with a picture, as GIF or PNG: the shape of the draft's example.
    fn nested() -> NestedPart {
        let version = |media_type, content_id| {
            let text = |word: &str| format!(r#"<p>{word}</p><img src="cid:{content_id}@local.invalid">"#);
            let words = vec![html("en", &text("fish")), html("fr", &text("poisson"))];
            NestedPart::multi(
                PartSemantics::ProcessAll,
                vec![
                    NestedPart::multi(PartSemantics::ChooseOne, words),
                    NestedPart::single(media_type, [1]).with_disposition(Disposition::INLINE),
                ],
            )
        };
        NestedPart::multi(
            PartSemantics::ChooseOne,
            vec![version("image/gif", 5), version("image/png", 10)],
        )
    }

    fn indices(body: &NestedPart, media_types: &[&str], languages: &[&str]) -> Vec<u32> {
        let steps = choose(body, &Preferences::new(media_types, languages));
        steps.iter().map(|step| step.index.0).collect()
    }

    #[test]
    fn the_receiver_chooses_by_its_own_preferences() {
        let html_and = |images: [&'static str; 2]| vec!["text/html", images[0], images[1]];
        let png_first = html_and(["image/png", "image/gif"]);
        assert_eq!(indices(&nested(), &png_first, &["fr", "en"]), [9]);
        assert_eq!(indices(&nested(), &png_first, &["en"]), [8]);
        let gif_first = html_and(["image/gif", "image/png"]);
        assert_eq!(indices(&nested(), &gif_first, &["de", "fr"]), [4]);
    }

    #[test]
    fn a_part_that_another_one_shows_is_not_processed_again() {
        // The picture is left out because the text has it; the other picture belongs to what was not chosen.
        assert_eq!(indices(&nested(), &["text/html", "image/*"], &["en"]), [3]);
        let picture_first = NestedPart::multi(
            PartSemantics::ProcessAll,
            vec![
                NestedPart::single("image/png", [1]),
                NestedPart::html(r#"<img src="cid:1@local.invalid">"#),
            ],
        );
        assert_eq!(indices(&picture_first, &["text/html", "image/*"], &[]), [1, 2]);
    }

    #[test]
    fn equally_liked_alternatives_are_taken_in_the_senders_order() {
        let body = NestedPart::multi(
            PartSemantics::ChooseOne,
            vec![
                NestedPart::single("image/gif", [1]),
                NestedPart::single("image/png", [1]),
            ],
        );
        assert_eq!(indices(&body, &["image/*"], &[]), [1]);
    }

    #[test]
    fn a_unit_is_processed_as_a_whole_or_not_at_all() {
        let unit = |semantics| {
            NestedPart::multi(
                semantics,
                vec![NestedPart::text("a"), NestedPart::single("image/x-new", [1])],
            )
        };
        assert!(indices(&unit(PartSemantics::SingleUnit), &["text/plain"], &[]).is_empty());
        assert_eq!(indices(&unit(PartSemantics::ProcessAll), &["text/plain"], &[]), [1]);
        let steps = unit(PartSemantics::SingleUnit);
        let steps = choose(&steps, &Preferences::new(&["text/plain", "image/*"], &[]));
        assert!(steps.len() == 2 && steps.iter().all(|step| step.in_unit));
    }

    #[test]
    fn text_in_another_charset_is_not_supported() {
        for (content_type, supported) in [
            ("text/plain;charset=UTF-8", true),
            ("text/plain; charset=\"us-ascii\"", true),
            ("text/plain", true),
            ("text/plain;charset=iso-8859-1", false),
            ("not a media type", false),
        ] {
            let body = NestedPart::single(content_type, "x");
            assert_eq!(
                !indices(&body, &["text/plain"], &[]).is_empty(),
                supported,
                "{content_type}"
            );
        }
    }

    #[test]
    fn a_session_without_media_type_can_be_joined() {
        let link = ExternalPart::link("https://example.com/join/12345", "Join");
        let body = NestedPart::new(Part::External(Box::new(link))).with_disposition(Disposition::SESSION);
        assert_eq!(indices(&body, &[], &[]), [0]);
    }
}
