//! Files of data sets, whatever their ending claims: an error or rows, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_dataset::{Fields, read_bytes, summarise};

const NAMES: [&str; 6] = ["f.jsonl", "f.json", "f.csv", "f.tsv", "f.parquet", "f.jsonl.gz"];

fuzz_target!(|input: (u8, &[u8])| {
    let name = NAMES[usize::from(input.0) % NAMES.len()];
    if let Ok(data) = read_bytes(name, bytes::Bytes::copy_from_slice(input.1), &Fields::default()) {
        assert!(data.rows.iter().all(|row| !row.text.trim().is_empty()));
        summarise(&data);
    }
});
