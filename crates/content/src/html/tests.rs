use proptest::prelude::*;

use super::*;

fn text(html: &str) -> String {
    let mut out = Plain::new();
    render(html, &mut out);
    out.finish()
}

#[test]
fn inline_markup_leaves_its_text() {
    assert_eq!(text("i am a <strong>fish</strong>"), "i am a fish");
    assert_eq!(text("<em>a</em><B\n>b</B> <u title='>'>c</u>"), "ab c");
    assert_eq!(
        text("10<sup>6</sup> H<sub>2</sub>O <del>old</del> <code>x</code>"),
        "10^6 H_2O ~~old~~ `x`"
    );
}

#[test]
fn white_space_collapses_except_where_it_is_preformatted() {
    assert_eq!(text("  a \n\t b  <b> c</b>  "), "a b c");
    assert_eq!(text("<pre>a\n  b\tc\n</pre>d"), "a\n  b\tc\nd");
    assert_eq!(text("a&nbsp;&nbsp;b"), "a  b");
}

#[test]
fn blocks_stand_on_lines_of_their_own() {
    assert_eq!(text("<p>a</p><p>b<br>c</p><hr><div>d</div>e"), "a\n\nb\nc\n\n---\nd\ne");
    assert_eq!(text("<br><br><br><br><br>a<br><br><br><br><br>b"), "a\n\n\nb");
    assert_eq!(
        text("<blockquote>a<br>b<blockquote>c</blockquote></blockquote>d"),
        "> a\n> b\n> > c\nd"
    );
    assert_eq!(
        text("<table><tr><th>a</th><th>b</th></tr><tr><td>1<td>2</table>"),
        "a | b\n1 | 2"
    );
}

#[test]
fn lists_keep_bullets_and_numbers() {
    assert_eq!(
        text("<ul><li>a</li><li><p>b</p><ul><li>c</ul></li></ul>d"),
        "- a\n- b\n  - c\nd"
    );
    assert_eq!(text("<ol start=3><li>a<li>b</ol>"), "3. a\n4. b");
    assert_eq!(text("<ol start='-1'><li></li><li>b</ol>x"), "2. b\nx");
    assert_eq!(
        text("<ol start=4294967295><li>a<li>b</ol>"),
        "4294967295. a\n4294967295. b"
    );
}

#[test]
fn a_link_shows_where_it_leads() {
    assert_eq!(
        text("<a href='https://evil.example'>https://bank.example</a>!"),
        "https://bank.example (https://evil.example)!"
    );
    assert_eq!(
        text("<a href='https://a.example/'>https://a.example/</a>"),
        "https://a.example/"
    );
    assert_eq!(text("<a href='mailto:a@b.example'>a@b.example</a>"), "a@b.example");
    assert_eq!(
        text("<a href='javascript:alert(1)'>x</a> <a href='data:,y'>y</a>"),
        "x y"
    );
    assert_eq!(
        text("<a href='https://a.example/) safe'>x</a>"),
        "x (https://a.example/%29%20safe)"
    );
    assert_eq!(
        text("<a href='https://a.example'>never closed"),
        "never closed (https://a.example)"
    );
    assert_eq!(text("<a href='https://a.example'></a>"), "(https://a.example)");
}

#[test]
fn images_leave_their_description() {
    assert_eq!(text("<img src='mxc://a/b' alt='a fish'>"), "[image: a fish]");
    assert_eq!(
        text("a <img data-mx-emoticon src='mxc://a/b' alt=':fish:'> b"),
        "a :fish: b"
    );
    assert_eq!(text("<img src=x onerror=alert(1)>"), "[image]");
}

#[test]
fn a_spoiler_stays_covered() {
    assert_eq!(
        text("<span data-mx-spoiler>he <span>dies</span></span> end"),
        "[spoiler] end"
    );
    assert_eq!(
        text("<span data-mx-spoiler='the end'>he dies</span>"),
        "[spoiler: the end]"
    );
    assert_eq!(text("<span>seen</span>"), "seen");
}

#[test]
fn scripts_styles_comments_and_quoted_replies_are_no_text() {
    assert_eq!(text("a<script>if (a</b>c) x='</ script>'</SCRIPT>b"), "ab");
    assert_eq!(
        text("a<style>b{}</style>c<title>d</title><!-- e <b> --><!doctype html>f"),
        "acf"
    );
    assert_eq!(text("<mx-reply><blockquote>old</blockquote></mx-reply>new"), "new");
    assert_eq!(text("a<script>b"), "a");
    assert_eq!(text("a<!-- b"), "a");
}

#[test]
fn what_is_no_markup_is_text() {
    assert_eq!(text("1 < 2 <3 </3 <> & &foo; &amp;lt;"), "1 < 2 <3 </3 <> & &foo; &lt;");
    assert_eq!(text("a <b unfinished"), "a <b unfinished");
    assert_eq!(
        text("a <b title=\"never closed> <i>c</i>"),
        "a <b title=\"never closed> <i>c</i>"
    );
}

#[test]
fn character_references_cannot_smuggle_control_characters() {
    assert_eq!(text("&lt;b&gt; &#233;&#xE9;&hellip;"), "<b> éé…");
    assert_eq!(
        text("&#27;[31m &#x202e;x &#0; &#xD800; &#99999999999999;"),
        "\u{fffd}[31m \u{fffd}x \u{fffd} \u{fffd} \u{fffd}"
    );
    assert_eq!(text("a&#10;b&#x2028;c"), "a b c");
    assert_eq!(text("<img alt='&#27;]0;x&#7;'>"), "[image: \u{fffd}]0;x\u{fffd}]");
}

#[test]
fn hostile_nesting_is_read_in_one_go() {
    let deep = "<blockquote><ul><li>".repeat(3_000);
    assert!(text(&format!("{deep}x")).ends_with("- x"));
    for pattern in [
        "<", "<a ", "<a b=\"", "<!--", "<![", "</", "<script>", "</script", "&", "&#", "<a b='c", "<ul>", "<pre>\n",
    ] {
        let html = pattern.repeat(65_536 / pattern.len());
        assert!(text(&html).len() <= crate::MAX_RENDERED_BYTES, "{pattern}");
    }
}

proptest! {
    #[test]
    fn any_html_becomes_safe_text(html in any::<String>()) {
        crate::fuzzing::html(html.as_bytes());
    }

    #[test]
    fn anything_like_html_becomes_safe_text(parts in prop::collection::vec(part(), 0..60)) {
        crate::fuzzing::html(parts.concat().as_bytes());
    }

    #[test]
    fn text_without_markup_stays_as_it_is(words in prop::collection::vec("[a-zA-Z0-9äöü.,!?]{1,9}", 0..20)) {
        let line = words.join(" ");
        prop_assert_eq!(text(&line), line);
    }
}

fn part() -> impl Strategy<Value = String> {
    let tags: Vec<_> = [
        "<", ">", "</", "<!--", "-->", "\"", "'", "=", "&#x202e;", "&#27;", "&", ";", " ", "\n", "\r", "\u{202e}",
    ]
    .into_iter()
    .chain([
        "<b>",
        "<a href='https://a.example'>",
        "</a>",
        "<li>",
        "<ol>",
        "</ul>",
        "<pre>",
        "</pre>",
        "<td>",
        "<br/>",
    ])
    .chain([
        "<span data-mx-spoiler>",
        "</span>",
        "<script>",
        "</script>",
        "<blockquote>",
        "</blockquote>",
        "<img alt=x>",
    ])
    .map(str::to_owned)
    .collect();
    prop_oneof![3 => prop::sample::select(tags), 1 => any::<String>()]
}
