use super::*;
use understudy_core::Seed;
use understudy_dataset::Example;

#[derive(Deserialize)]
struct Reference {
    classes: usize,
    dimensions: usize,
    x: Vec<f32>,
    labels: Vec<usize>,
    fits: Vec<ReferenceFit>,
}

#[derive(Deserialize)]
struct ReferenceFit {
    c: f64,
    weights: Vec<f64>,
    bias: Vec<f64>,
    loss: f64,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../tests/fixtures/head.json")).unwrap()
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("l{i:02}")).collect()
}

/// Places as `split` would give them for texts "0", "1", …
fn places(n: usize) -> Vec<Place> {
    let example = |i: usize| Example { id: i.to_string(), text: i.to_string(), label: format!("l{}", i % 2) };
    let examples: Vec<Example> = (0..n.max(4)).map(example).collect();
    let mut places = crate::split::split(&examples, 0.0, Seed(1)).unwrap().places;
    places.truncate(n);
    places
}

/// Subtracts the mean over classes: only differences between rows matter to a softmax.
fn centred(x: &[f64], classes: usize) -> Vec<f64> {
    let columns = x.len() / classes;
    let mean = |k: usize| (0..classes).map(|j| x[j * columns + k]).sum::<f64>() / classes as f64;
    (0..x.len()).map(|i| x[i] - mean(i % columns)).collect()
}

#[test]
fn coefficients_and_loss_equal_scikit_learns_at_the_same_c() {
    let r = reference();
    let x = Matrix::new(r.dimensions, r.x.clone()).unwrap();
    for fit in &r.fits {
        let params = HeadParams { tolerance: 1e-6, max_iterations: 1000, ..HeadParams::default() };
        let mut w = vec![0.0; r.classes * (r.dimensions + 1)];
        params.check().unwrap().solve(&mut w, &Blocks::new(&x), &r.labels, r.classes, fit.c);
        let (weights, bias) = w.split_at(r.classes * r.dimensions);
        let difference = |ours: &[f64], theirs: &[f64]| {
            let pairs = centred(ours, r.classes).into_iter().zip(centred(theirs, r.classes));
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        let largest = difference(weights, &fit.weights).max(difference(bias, &fit.bias));
        let logits = logits(&w, &x, r.classes);
        let rows = logits.chunks_exact(r.classes).zip(&r.labels);
        let loss = rows.map(|(row, &l)| crate::temperature::log_loss(row, l, 1.0)).sum::<f64>() / r.labels.len() as f64;
        println!(
            "C = {}: largest difference of a coefficient {largest:.1e}, of the loss {:.1e}",
            fit.c,
            (loss - fit.loss).abs()
        );
        assert!(largest < 1e-3 && (loss - fit.loss).abs() < 1e-5);
    }
}

#[test]
fn the_same_data_gives_the_same_head_and_counts_add_up() {
    let r = reference();
    let x = Matrix::new(r.dimensions, r.x).unwrap();
    let (places, classes) = (places(r.labels.len()), names(r.classes));
    let data = Labelled { embeddings: &x, labels: &r.labels, places: &places, classes: &classes };
    let fit = || HeadParams::default().check().unwrap().fit(data).unwrap();
    let fitted = fit();
    assert_eq!(fitted, fit());
    assert_eq!((fitted.n_train, fitted.n_stop + fitted.n_calibrate), (240, 240), "every item is held out once");
    assert_eq!(fitted.path.len(), 5);
    let least = fitted.path.iter().map(|s| s.loss).fold(f64::INFINITY, f64::min);
    assert!(fitted.path.iter().any(|s| s.loss <= least && (s.c - fitted.c).abs() < 1e-12));
}

#[test]
fn with_many_examples_one_fold_is_held_out_and_the_path_stops_early() {
    let r = reference();
    let x = Matrix::new(r.dimensions, r.x).unwrap();
    let (places, classes) = (places(r.labels.len()), names(r.classes));
    let data = Labelled { embeddings: &x, labels: &r.labels, places: &places, classes: &classes };
    let c: Vec<f64> = (0..12).map(|i| 0.25 * f64::powi(4.0, i)).collect();
    let fitted = HeadParams { c, cross_fit_below: 0, ..HeadParams::default() }.check().unwrap().fit(data).unwrap();
    let out = places.iter().filter(|p| p.fold == 0).count();
    assert_eq!((fitted.n_train, fitted.n_stop + fitted.n_calibrate), (240, out));
    assert!(fitted.path.len() < 12, "the path ends before the weakest regularisation: {:?}", fitted.path);
}

#[test]
fn bad_parameters_and_data_are_named() {
    let bad = |edit: fn(&mut HeadParams)| {
        let mut params = HeadParams::default();
        edit(&mut params);
        params.check().unwrap_err().param().unwrap().to_owned()
    };
    assert_eq!(bad(|p| p.c.clear()), "c");
    assert_eq!(bad(|p| p.c = vec![2.0, 1.0]), "c");
    assert_eq!(bad(|p| p.patience = 0), "patience");
    assert_eq!(bad(|p| p.max_iterations = 0), "max_iterations");
    assert_eq!(bad(|p| p.tolerance = f64::NAN), "tolerance");
    assert!(serde_json::from_str::<HeadParams>(r#"{"epochs": 3}"#).is_err());
    let x = Matrix::new(1, vec![1.0, 2.0]).unwrap();
    let (places, classes) = (places(2), names(2));
    let fit = |labels: &[usize]| {
        let data = Labelled { embeddings: &x, labels, places: &places, classes: &classes };
        HeadParams::default().check().unwrap().fit(data)
    };
    assert!(fit(&[0, 0]).unwrap_err().to_string().contains("same label"));
    assert!(fit(&[0, 2]).unwrap_err().to_string().contains("label 2"));
    assert!(fit(&[0]).is_err());
    assert!(fit(&[0, 1]).is_ok(), "two examples are enough to fit something");
}
