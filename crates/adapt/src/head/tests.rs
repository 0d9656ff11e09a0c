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
        let blocks = Blocks::new(&x);
        let (labels, classes) = (&r.labels[..], r.classes);
        let examples = Examples { blocks: &blocks, labels, shares: &[], weights: None, classes };
        params.check().unwrap().solve(&mut w, &examples, fit.c);
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

/// Points on a circle and the exact chance of each of three classes there; draws of the classes.
fn posteriors(n: u32) -> (Matrix, Vec<Vec<f32>>, Vec<usize>) {
    let mut state = 11_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1u32 << 24)
    };
    let (mut x, mut all, mut drawn) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n {
        let angle = std::f64::consts::TAU * random();
        let score = |class: u32| (1.5 * (angle - std::f64::consts::TAU * f64::from(class) / 3.0).cos()).exp();
        let total: f64 = (0..3).map(score).sum();
        let p: Vec<f64> = (0..3).map(|class| score(class) / total).collect();
        let at = random();
        drawn.push(if at < p[0] { 0 } else { 1 + usize::from(at > p[0] + p[1]) });
        #[expect(clippy::cast_possible_truncation, reason = "numbers of the order of 1")]
        {
            // Directions that mean nothing: what drawn labels are over-fitted to.
            x.extend([angle.cos() as f32, angle.sin() as f32]);
            x.extend((0..30).map(|_| random() as f32 - 0.5));
            all.push(p.iter().map(|p| *p as f32).collect());
        }
    }
    (Matrix::new(32, x).unwrap(), all, drawn)
}

#[test]
fn exact_posteriors_teach_more_than_labels_drawn_from_them() {
    let (x, shares, drawn) = posteriors(120);
    let (test, truth, _) = posteriors(1000);
    let (places, classes) = (places(120), names(3));
    let data = Labelled { embeddings: &x, labels: &drawn, places: &places, classes: &classes };
    let params = HeadParams::default().check().unwrap();
    let divergence = |head: &Head| {
        let far = |i: usize| {
            let p = head.predict(test.row(i)).unwrap().probabilities;
            truth[i].iter().zip(p).map(|(q, p)| f64::from(*q) * (f64::from(*q).ln() - p.ln())).sum::<f64>()
        };
        (0..test.rows()).map(far).sum::<f64>() / test.rows() as f64
    };
    let hard = params.fit(data).unwrap();
    let whole: Vec<Option<Vec<f32>>> = shares.iter().cloned().map(Some).collect();
    let soft = params.fit_to_shares(data, &whole).unwrap().0;
    // Half of them, mixed with labels.
    let some: Vec<Option<Vec<f32>>> = whole.iter().enumerate().map(|(i, q)| q.clone().filter(|_| i % 2 == 0)).collect();
    let mixed = params.fit_to_shares(data, &some).unwrap().0;
    let [hard, mixed, soft] = [&hard, &mixed, &soft].map(|fitted| divergence(&fitted.head));
    println!("mean KL from the truth: labels {hard:.4}, half and half {mixed:.4}, posteriors {soft:.4}");
    assert!(soft < 0.5 * hard && mixed < hard);
    assert!(params.fit_to_shares(data, &[None]).is_err());
    let beyond = vec![Some(vec![0.9, 0.9, 0.0]); 120];
    assert!(params.fit_to_shares(data, &beyond).is_err());
}

#[test]
fn shares_that_are_certain_are_labels() {
    let r = reference();
    let x = Matrix::new(r.dimensions, r.x).unwrap();
    let (places, classes) = (places(r.labels.len()), names(r.classes));
    let data = Labelled { embeddings: &x, labels: &r.labels, places: &places, classes: &classes };
    let certain = |label: &usize| Some((0..r.classes).map(|class| f32::from(u8::from(class == *label))).collect());
    let shares: Vec<Option<Vec<f32>>> = r.labels.iter().map(certain).collect();
    let params = HeadParams::default().check().unwrap();
    assert_eq!(params.fit_and_keep(data).unwrap(), params.fit_to_shares(data, &shares).unwrap());
}
