//! A server's own name (LM #int-server-names): what the draft advises against. Such a name works, but can never be changed, so
//! the commands that come before the first start say it.

use nabe_types::ServerName;

/// What speaks against the name, a sentence each; mostly nothing.
pub(crate) fn advice(name: &ServerName) -> Vec<&'static str> {
    let text = name.as_str();
    let mut advice = Vec::new();
    if name.port().is_some() {
        advice.push("the name has a port; leave it out and say where the server is with .well-known or SRV records");
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        advice.push("the name has capital letters; other servers compare names letter by letter");
    }
    if text.len() > LONGEST_ADVISED_NAME {
        advice.push("the name has more than 230 characters, which leaves little for the names of users and rooms");
    }
    advice
}

/// Characters (LM #int-server-names).
const LONGEST_ADVISED_NAME: usize = 230;

#[cfg(test)]
mod tests {
    use super::*;

    fn advice_on(name: &str) -> Vec<&'static str> {
        advice(&ServerName::parse(name).unwrap())
    }

    #[test]
    fn own_name_with_a_port_is_advised_against() {
        assert_eq!(advice_on("chat.example.org"), [""; 0]);
        let [with_port] = advice_on("chat.example.org:8448")[..] else {
            panic!("one advice")
        };
        assert!(with_port.contains("port"));
    }

    #[test]
    fn own_name_with_capitals_is_advised_against() {
        let [capitals] = advice_on("Chat.example.org")[..] else {
            panic!("one advice")
        };
        assert!(capitals.contains("capital"));
    }

    #[test]
    fn own_name_over_230_characters_is_advised_against() {
        let of_length = |length: usize| {
            let label = "a".repeat(63);
            format!("{label}.{label}.{label}.{}", "b".repeat(length - 3 * 64))
        };
        assert_eq!(advice_on(&of_length(230)), [""; 0]);
        let [long] = advice_on(&of_length(231))[..] else {
            panic!("one advice")
        };
        assert!(long.contains("230"));
    }
}
