//! Files of data sets, whatever their ending claims: an error or rows, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy_dataset::{Fields, read_bytes, summarise};

const NAMES: [&str; 6] = ["f.jsonl", "f.json", "f.csv", "f.tsv", "f.parquet", "f.jsonl.gz"];

fuzz_target!(
    init: {
        // The fuzzer's own hook ends the process at every panic, caught ones too; the reader of Parquet catches those of
        // its crate. What nobody catches still ends the run.
        std::panic::set_hook(Box::new(|_| {}));
    },
    |input: &[u8]| {
        let Some((kind, bytes)) = input.split_first() else { return };
        let name = NAMES[usize::from(*kind) % NAMES.len()];
        if let Ok(data) = read_bytes(name, bytes::Bytes::copy_from_slice(bytes), &Fields::default()) {
            assert!(data.rows.iter().all(|row| !row.text.trim().is_empty()));
            std::hint::black_box(summarise(&data));
        }
    }
);
