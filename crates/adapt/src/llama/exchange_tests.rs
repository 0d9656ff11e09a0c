//! What goes out comes back in: adapters in PEFT's layout, merged models as safetensors; and what importance is.

use super::tests::{examples, largest_difference, network, noise, small, weights};
use super::*;
use understudy_core::Seed;

/// A network whose adapters do something.
fn adapted(biased: bool) -> LlamaNetwork {
    let (mut network, mut noise) = (network(biased, small()), noise(11));
    for index in 0..network.parameters().len() {
        let n = network.parameters()[index].values().len();
        network.values_mut(index).copy_from_slice(&noise(n, 0.4));
    }
    network.refresh();
    network
}

#[test]
fn an_adapter_that_was_written_reads_back_as_it_was() {
    let network = adapted(true);
    let files = network.peft_files("base").unwrap();
    let (config, tensors) = (&files["adapter_config.json"], &files["adapter_model.safetensors"]);
    let read = LlamaNetwork::from_peft(weights(true), config, tensors, 64).unwrap();
    assert_eq!(read.lora(), &LlamaLora { targets: read.lora().targets.clone(), ..small() });
    let bits = |n: &LlamaNetwork| -> Vec<u32> {
        n.parameters().iter().flat_map(|p| p.values()).map(|x| x.to_bits()).collect()
    };
    assert!(bits(&read) == bits(&network));
    assert!(largest_difference(&network, &read, &Batch::new(&examples(4))) < 1e-12);
}

#[test]
fn adapters_that_are_of_another_kind_or_another_base_are_refused() {
    let files = adapted(false).peft_files("base").unwrap();
    let (config, tensors) = (&files["adapter_config.json"], &files["adapter_model.safetensors"]);
    let told = |config: &[u8], tensors: &[u8]| {
        LlamaNetwork::from_peft(weights(false), config, tensors, 64).map(drop).unwrap_err().to_string()
    };
    let changed = |field: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_slice(config).unwrap();
        json[field] = value;
        json.to_string().into_bytes()
    };
    assert!(told(&changed("use_dora", true.into()), tensors).contains("use_dora"));
    assert!(told(&changed("modules_to_save", vec!["lm_head"].into()), tensors).contains("modules_to_save"));
    assert!(told(&changed("peft_type", "IA3".into()), tensors).contains("peft_type"));
    assert!(told(&changed("alora_invocation_tokens", vec![1, 2].into()), tensors).contains("plain LoRA"));
    for start in ["pissa", "pissa_niter_16", "olora", "corda", "loftq"] {
        let error = told(&changed("init_lora_weights", start.into()), tensors);
        assert!(error.contains(start) && error.contains("path_initial_model"), "{error}");
    }
    for start in
        [true.into(), false.into(), serde_json::Value::Null, "gaussian".into(), "orthogonal".into(), "eva".into()]
    {
        let config = changed("init_lora_weights", start);
        LlamaNetwork::from_peft(weights(false), &config, tensors, 64).map(drop).unwrap();
    }
    assert!(told(&changed("r", 5.into()), tensors).contains("rank 5"));
    assert!(told(config, &tensors[..tensors.len() - 8]).contains("adapter_model.safetensors"));
    let mut deeper = weights(false);
    deeper.layers.pop();
    deeper.config.layers -= 1;
    let wrong = LlamaNetwork::from_peft(deeper, config, tensors, 64).map(drop).unwrap_err().to_string();
    assert!(wrong.contains("no place for model.layers.1"), "{wrong}");
    // Rank-stabilised adapters count α / √rank times.
    let read = LlamaNetwork::from_peft(weights(false), &changed("use_rslora", true.into()), tensors, 64).unwrap();
    assert!((f64::from(read.lora().scale()) - small().alpha / (small().rank as f64).sqrt()).abs() < 1e-6);
}

#[test]
fn a_merged_folder_says_what_the_network_with_its_adapters_said() {
    for biased in [false, true] {
        let mut network = adapted(biased);
        let folder = tempfile::tempdir().unwrap();
        if biased {
            assert!(network.write_folder(folder.path()).unwrap_err().to_string().contains("GGUF"));
            // As Qwen2 has it.
            network = adapted_of(Weights { factors: Vec::new(), family: "qwen2".into(), ..weights(true) });
        }
        network.write_folder(folder.path()).unwrap();
        let read = Weights::from_folder(folder.path()).unwrap();
        assert_eq!(read.config(), network.config());
        let read = LlamaNetwork::new(read, small(), Seed(7), 64).unwrap();
        let difference = largest_difference(&network, &read, &Batch::new(&examples(6)));
        println!("biased {biased}: largest difference {difference:.1e}");
        assert!(difference < 1e-4);
    }
}

#[test]
fn a_model_in_the_folder_is_replaced_as_a_whole_and_nothing_else_is() {
    let (network, tmp) = (adapted(false), tempfile::tempdir().unwrap());
    let (model, thesis) = (tmp.path().join("model"), tmp.path().join("thesis"));
    let tokenizer = [("tokenizer.json".to_owned(), b"{}".to_vec())].into();
    network.write_folder_with(&model, &tokenizer).unwrap();
    std::fs::write(model.join("model-00002-of-00002.safetensors"), "old").unwrap();
    network.write_folder_with(&model, &tokenizer).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&model).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 1, "nothing else is left behind");
    std::fs::create_dir(&thesis).unwrap();
    std::fs::write(thesis.join("config.json"), "precious").unwrap();
    let refused = network.write_folder(&thesis).unwrap_err().to_string();
    assert!(refused.contains("holds no model"), "{refused}");
    assert_eq!(std::fs::read(thesis.join("config.json")).unwrap(), b"precious");
}

#[test]
fn a_merged_gguf_file_says_nothing_of_how_its_base_lies_on_the_disk() {
    use gguf_write::{Floats, Tensor, Value, write_to};
    let (network, tmp) = (adapted(false), tempfile::tempdir().unwrap());
    let (base, merged) = (tmp.path().join("base.gguf"), tmp.path().join("merged.gguf"));
    let c = network.config();
    let number = |x: usize| Value::U32(u32::try_from(x).unwrap());
    // A u16 of 300: both of its bytes count.
    let long = Value::Raw(&[2, 0, 0, 0, 44, 1]);
    let values = [
        ("general.architecture", Value::Text("llama")),
        ("general.alignment", Value::U32(64)),
        ("llama.embedding_length", number(c.width)),
        ("llama.block_count", number(c.layers)),
        ("llama.attention.head_count", number(c.heads)),
        ("llama.attention.head_count_kv", number(c.kv_heads)),
        ("llama.feed_forward_length", number(c.inner)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(c.epsilon)),
        ("split.count", long),
        ("quantize.imatrix.file", Value::Text("calibration.dat")),
        ("tokenizer.chat_template", Value::Text("{{ messages }}")),
    ];
    let table = Tensor { name: "token_embd.weight".into(), shape: vec![c.width, c.vocabulary], floats: Floats::F32 };
    let mut bytes = Vec::new();
    write_to(&mut bytes, &values, &[table], |_| vec![0.0; c.width * c.vocabulary].into()).unwrap();
    std::fs::write(&base, bytes).unwrap();
    assert_eq!(gguf::Gguf::open(&base).unwrap().number("split.count").unwrap().to_bits(), 300f64.to_bits());

    network.write_gguf(&base, "merged", Numbers::F32, &merged).unwrap();
    let file = gguf::Gguf::open(&merged).unwrap();
    assert_eq!(file.text("tokenizer.chat_template").unwrap(), "{{ messages }}");
    assert!(!["general.alignment", "split.count", "quantize.imatrix.file"].iter().any(|key| file.has(key)));
    let read = LlamaNetwork::new(Weights::from_gguf(&merged).unwrap(), small(), Seed(7), 64).unwrap();
    assert!(largest_difference(&network, &read, &Batch::new(&examples(4))) < 1e-4);
}

fn adapted_of(weights: Weights) -> LlamaNetwork {
    let files = adapted(true).peft_files("base").unwrap();
    LlamaNetwork::from_peft(weights, &files["adapter_config.json"], &files["adapter_model.safetensors"], 64).unwrap()
}

#[test]
fn importance_is_the_mean_square_of_what_a_layer_reads() {
    let (network, examples) = (network(false, small()), examples(3));
    let importance = network.importance(&examples, || std::ops::ControlFlow::Continue(()));
    let config = network.config();
    assert_eq!(importance.len(), 7 * config.layers + 1);
    assert_eq!(importance["blk.1.ffn_down.weight"].len(), config.inner);
    assert_eq!(importance["blk.0.attn_q.weight"], importance["blk.0.attn_v.weight"]);
    // The first layer reads the normed rows of the table: their mean squares, naively.
    let w = weights(false);
    let (mut sums, mut count) = (vec![0f64; config.width], 0.0);
    for token in examples.iter().flat_map(|e| &e.tokens[..e.tokens.len() - 1]) {
        let row = &w.table[*token as usize * config.width..][..config.width];
        let mean = row.iter().map(|x| f64::from(x * x)).sum::<f64>() / config.width as f64;
        let scale = 1.0 / (mean + f64::from(config.epsilon)).sqrt();
        for ((sum, x), g) in sums.iter_mut().zip(row).zip(&w.layers[0].attention_norm) {
            *sum += (f64::from(*x) * scale * f64::from(*g)).powi(2);
        }
        count += 1.0;
    }
    for (found, sum) in importance["blk.0.attn_k.weight"].iter().zip(&sums) {
        assert!((f64::from(*found) - sum / count).abs() < 1e-4 * (sum / count), "{found} and {}", sum / count);
    }
    // The table also scores: its columns count by the last rows, whose mean square is the norm's.
    let last = &importance["token_embd.weight"];
    let mean = last.iter().map(|x| f64::from(*x)).sum::<f64>() / config.width as f64;
    assert!((mean - 1.2f64.powi(2)).abs() < 1e-3, "{mean}");
}
