use super::*;
use crate::{Fields, read};
use proptest::prelude::*;
use understudy_core::{Message, Role};

fn read_back(rows: &[Row], format: OutFormat) -> Vec<Row> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows").with_extension(format.ending());
    write(&path, format, rows).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the file");
    read(&path, &Fields::default()).unwrap().rows.into_iter().map(|row| Row { line: 0, ..row }).collect()
}

#[test]
fn conversations_and_answers_read_back_the_same() {
    let message = |role, text: &str| Message { role, text: text.into() };
    let chat = vec![
        message(Role::User, "Hi"),
        message(Role::Assistant, "Hello"),
        message(Role::Tool, "42"),
        message(Role::User, "Who?"),
    ];
    let row = Row {
        id: "a".into(),
        text: "Who?".into(),
        system: Some("Be brief.".into()),
        messages: chat,
        references: vec!["Me.".into()],
        ..Row::default()
    };
    let two = Row { id: "b".into(), references: vec!["I".into(), "me".into()], ..row.clone() };
    let rows = vec![row.clone(), two.clone()];
    assert_eq!(read_back(&rows, OutFormat::Jsonl), rows);
    let chats = read_back(&rows[..1], OutFormat::OpenAi);
    assert_eq!(chats, [Row { id: "1".into(), ..row }]);
    let error = write(Path::new("x.csv"), OutFormat::Csv, &[two]).unwrap_err().to_string();
    assert!(error.contains("`b`") && error.contains("JSONL"), "{error}");
    let none = Row { id: "c".into(), text: "t".into(), ..Row::default() };
    assert!(write(Path::new("x.jsonl"), OutFormat::OpenAi, &[none]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn labelled_texts_read_back_the_same_in_every_format(
        texts in proptest::collection::vec(("\\PC{0,20}[\"\n\r,;\t ]?[a-z]", "[a-zäß ,\"]{0,6}[a-z]", "[a-z]{0,4}"), 1..12)
    ) {
        let rows: Vec<Row> = texts
            .into_iter()
            .enumerate()
            .map(|(i, (text, label, group))| Row {
                id: format!("r{i}"),
                text,
                label: Some(label.trim().to_owned()),
                group: Some(group).filter(|group| !group.is_empty()),
                ..Row::default()
            })
            .collect();
        for format in [OutFormat::Jsonl, OutFormat::Csv, OutFormat::Parquet] {
            prop_assert_eq!(&read_back(&rows, format), &rows, "{:?}", format);
        }
        let chats = read_back(&rows, OutFormat::OpenAi);
        for (chat, row) in chats.iter().zip(&rows) {
            prop_assert_eq!((&chat.text, chat.gold()), (&row.text, row.gold()));
        }
    }
}
