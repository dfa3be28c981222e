//! PROTOCOL.md lists exactly the codes that are declared, with the same texts.

use tidewire_protocol::{CloseCode, ErrorCode};

/// The table rows of one section.
fn rows(section: &str) -> Vec<String> {
    let path = format!("{}/../../PROTOCOL.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("PROTOCOL.md is at the top of the project");
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).expect("the section is there");
    let section = rest.split("\n## ").next().unwrap_or(rest);
    section.lines().filter(|line| line.starts_with('|')).skip(2).map(str::to_owned).collect()
}

#[test]
fn every_error_code_is_documented_and_nothing_else() {
    let declared: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let retryable = if code.retryable() { "yes" } else { "no" };
            format!("| `{code}` | {retryable} | {} |", code.text())
        })
        .collect();
    assert_eq!(rows("Error codes"), declared);
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::parse(code.as_str()), Some(*code));
    }
}

#[test]
fn every_close_code_is_documented_and_nothing_else() {
    let declared: Vec<String> =
        CloseCode::ALL.iter().map(|code| format!("| {code} | {} |", code.text())).collect();
    assert_eq!(rows("Close codes"), declared);
}
