//! Our own vectors hold, and no statement in them can be changed without being noticed.

use super::*;

/// Every vector file of every draft.
fn files() -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let drafts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drafts");
    let folders = std::fs::read_dir(drafts).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path().join("vectors"));
    let mut files: Vec<_> = folders
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 12);
    files
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn our_own_vectors_hold() {
    for (path, bytes) in files() {
        for Verdict { entry, outcome, .. } in verify(&bytes).unwrap() {
            assert!(outcome.is_ok(), "{}: {entry}: {}", path.display(), outcome.unwrap_err());
        }
    }
}

#[test]
fn no_stated_text_can_be_changed_without_being_noticed() {
    for (path, bytes) in files() {
        let mut file = Json::parse_with(&bytes, limits()).unwrap().into_object().unwrap();
        let keys = file.remove("keys");
        let mut count = 0;
        for (name, entry) in entries(&file) {
            // One entry by itself: a file of them all would be verified again for each of its texts.
            let mut alone = Object::new();
            if let Some(keys) = &keys {
                alone.insert("keys", keys.clone());
            }
            alone.insert(name, entry);
            count += check_each_change(&path, &Json::from(alone));
        }
        assert!(count > 5, "{}", path.display());
    }
}

/// Each vector with the list it is in.
fn entries(file: &Object) -> Vec<(&str, Json)> {
    let mut entries = Vec::new();
    for (name, value) in file {
        match value.as_array() {
            Some(list) => entries.extend(list.iter().map(|entry| (name, Json::from(vec![entry.clone()])))),
            None => entries.push((name, value.clone())),
        }
    }
    entries
}

fn check_each_change(path: &Path, file: &Json) -> usize {
    let mut places = Vec::new();
    collect_texts(file, &mut Vec::new(), &mut places);
    for place in &places {
        let mut mutated = file.clone();
        mutate(&mut mutated, place);
        let noticed = match verify(&mutated.to_canonical()) {
            Err(_) => true,
            Ok(verdicts) => verdicts.iter().any(|verdict| verdict.outcome.is_err()),
        };
        assert!(noticed, "{}: a change at {place:?} goes unnoticed", path.display());
    }
    places.len()
}

#[test]
fn an_unknown_member_is_named() {
    let refused = |text: &str| verify(text.as_bytes()).err().map(|error| error.to_string());
    let unknown = refused(r#"{"structures": []}"#).unwrap();
    assert!(unknown.contains("`structures`"), "{unknown}");
    for (path, bytes) in files() {
        let file = Json::parse_with(&bytes, limits()).unwrap().into_object().unwrap();
        for (name, entry) in entries(&file) {
            if MEMBERS.contains(&name) {
                continue;
            }
            let Json::Array(mut list) = entry else { continue };
            list[0].as_object_mut().unwrap().insert("shape", "round");
            let mut alone = Object::new();
            alone.insert(name, list);
            let verdicts = verify(&Json::from(alone).to_canonical()).unwrap();
            let said = verdicts[0].outcome.as_ref().unwrap_err().to_string();
            assert!(said.contains("`shape`"), "{}: {name}: {said}", path.display());
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Index(usize),
}

/// Paths of all texts but names and notes.
fn collect_texts(value: &Json, path: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    if let Some(object) = value.as_object() {
        // Other bytes may well be refused for the same reason, and other contents be shown as the same text.
        let is_refused = object.contains_key("rule");
        let is_shown = object.contains_key("plain");
        // Where a sealed file lies is no matter of what is in it.
        let is_file = object.contains_key("hashes") && object.contains_key("iv");
        for (member, inner) in object {
            if is_refused && matches!(member, "hex" | "cbor" | "type")
                || is_shown && matches!(member, "content" | "type")
                || is_file && member == "url"
            {
                continue;
            }
            // The keys are what the statements are held against, not statements.
            if member == "note" || member == "name" && path.len() == 2 || member == "keys" && path.is_empty() {
                continue;
            }
            path.push(Step::Member(member.to_owned()));
            collect_texts(inner, path, found);
            path.pop();
        }
    } else if let Some(list) = value.as_array() {
        for (index, inner) in list.iter().enumerate() {
            path.push(Step::Index(index));
            collect_texts(inner, path, found);
            path.pop();
        }
    } else if value.as_str().is_some() {
        found.push(path.clone());
    }
}

fn mutate(value: &mut Json, path: &[Step]) {
    let inner = path.iter().fold(value, |value, step| match (step, value) {
        (Step::Member(member), Json::Object(object)) => object.get_mut(member).unwrap(),
        (Step::Index(index), Json::Array(list)) => &mut list[*index],
        _ => unreachable!("the path was found in this value"),
    });
    let text = inner.as_str().unwrap();
    // In the middle: the last character of base64 may hold unused bits.
    let middle = text
        .char_indices()
        .nth(text.chars().count() / 2)
        .map_or(0, |(index, _)| index);
    let (before, after) = text.split_at(middle);
    let next = after.chars().next();
    // Another digit also where case does not count.
    let changed = if matches!(next, Some('A' | 'a')) { 'B' } else { 'A' };
    let rest = next.map_or(after, |character| &after[character.len_utf8()..]);
    *inner = Json::from(format!("{before}{changed}{rest}"));
}
