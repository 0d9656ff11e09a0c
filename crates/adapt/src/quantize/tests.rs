use super::*;
use understudy_kernels::Dtype;
use understudy_model::encoder::{Encoder, EncoderOptions, Scratch};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/encoder").join(name)
}

fn embed(folder: &Path, dtype: Dtype) -> Vec<f32> {
    let encoder = Encoder::load(folder, &EncoderOptions { dtype, ..EncoderOptions::default() }).unwrap();
    let tokens = ["the red fish swims", "a bird", "deep blue sea sea"].map(|text| encoder.tokenize(text).unwrap());
    encoder.embed(&tokens, &mut Scratch::default()).concat()
}

fn written(name: &str, precision: Precision) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, bytes) in encode(&fixture(name), precision).unwrap() {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn layers_of_8_bits_are_what_the_int8_kernel_computes_with_anyway() {
    for name in ["bert", "mpnet", "distilbert"] {
        let folder = written(name, Precision { layers: Bits::Eight, words: Bits::Kept });
        // Positions in half precision are all that differs.
        let worst = farthest(&embed(&fixture(name), Dtype::Int8), &embed(folder.path(), Dtype::Int8));
        println!("{name}: weights of 8 bits against int8 as served: largest difference {worst:.2e}");
        assert!(worst < 0.01, "{worst}");
    }
}

#[test]
fn fewer_bits_cost_more_and_never_much() {
    let exact = embed(&fixture("bert"), Dtype::F32);
    let worst = |bits: Bits| {
        let folder = written("bert", Precision { layers: bits, words: bits });
        let worst = farthest(&exact, &embed(folder.path(), Dtype::F32));
        println!("{bits:?}: largest difference {worst:.2e}");
        worst
    };
    let (half, eight, four) = (worst(Bits::Half), worst(Bits::Eight), worst(Bits::Four));
    assert!(half < 1e-3 && half < eight && eight < 0.02 && eight < four && four < 0.3);
}

#[test]
fn what_is_quantised_is_not_quantised_again() {
    let precision = Precision { layers: Bits::Eight, words: Bits::Eight };
    let folder = written("bert", precision);
    let refused = encode(folder.path(), precision).unwrap_err().to_string();
    assert!(refused.contains("quantised already"), "{refused}");
}

#[test]
fn halves_are_the_nearest() {
    for (x, want) in [(0.0, 0u16), (1.0, 0x3c00), (-2.0, 0xc000), (65519.0, 0x7bff), (1e9, 0x7bff), (6e-8, 1)] {
        assert_eq!(half(x), want, "{x}");
    }
    for bits in (0..0x7c00u16).chain(0x8001..0xfc00) {
        let exact = unhalf(bits);
        assert_eq!(half(exact), bits);
        assert_eq!(half(exact * (1.0 + 1e-5)), bits, "{exact}");
    }
}

#[test]
fn four_bits_err_by_less_than_half_a_step_of_the_plain_scale_on_the_mean() {
    let mut state = 1u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..32 * 64).map(|_| number() + number() + number()).collect();
    let (numbers, scales) = four(&values);
    let scale_bytes: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
    let packed = understudy_model::encoder::packed::Packed::four(&numbers, &scale_bytes, [64, 32]).unwrap();
    let error = |got: &[f32]| got.iter().zip(&values).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let plain: Vec<f32> = values
        .chunks(32)
        .flat_map(|group| {
            let scale = group.iter().fold(0f32, |a, x| a.max(x.abs())) / 7.0;
            group.iter().map(move |w| (w / scale).round() * scale)
        })
        .collect();
    let (ours, theirs) = (error(&packed.floats()), error(&plain));
    println!("squared error {ours:.3}, of the largest number at 7 {theirs:.3}");
    assert!(ours < 0.95 * theirs);
}
