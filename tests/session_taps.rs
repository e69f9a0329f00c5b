//! What passes the stream while a session reads and writes, beside a whole forward of the same text.

mod common;

use std::sync::Arc;

use common::{Expected, GPU, bits, fixtures, go_on, relative};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Action, Edit, Kind, Look, Point, Probe, Trace};
use thalweg::{Decoder, Error, SessionOptions};

const DECODERS: [&str; 7] =
    ["llama_gqa", "gemma2_odd", "gpt2_odd", "phi3_longrope", "qwen3_norm", "neox_parallel", "olmo2_odd"];

fn decoder(name: &str) -> (Decoder, Vec<u32>) {
    let decoder = Decoder::load_blocking(&GPU, fixtures(&format!("decoders/{name}"))).unwrap();
    (decoder, Expected::open(&format!("decoders/{name}")).ids("ids"))
}

fn watching(points: &[Point], edits: &[Edit]) -> SessionOptions {
    SessionOptions { ignore_eos: true, taps: points.into(), edits: edits.into(), ..Default::default() }
}

fn compare(name: &str, seen: &Trace, first: usize, whole: &Trace) {
    let tokens = seen.ids.len();
    assert_eq!(seen.ids, whole.ids[first..first + tokens], "{name}");
    assert_eq!(seen.tensors.len(), whole.tensors.len(), "{name}");
    for (point, tensor) in &seen.tensors {
        let all = &whole.tensors[point];
        let expected: Vec<f32> = match point.kind {
            Kind::Pattern => {
                let (heads, length, keys) = (all.shape[0], all.shape[1], first + tokens);
                assert_eq!(tensor.shape, [heads, tokens, keys], "{name}: {point}");
                let row = |head: usize, query: usize| &all.data[(head * length + query) * length..][..keys];
                let own = (0..heads).flat_map(|head| (first..first + tokens).flat_map(move |query| row(head, query)));
                own.copied().collect()
            }
            _ => {
                assert_eq!((tensor.shape[0], &tensor.shape[1..]), (tokens, &all.shape[1..]), "{name}: {point}");
                let width = all.data.len() / all.shape[0];
                all.data[first * width..(first + tokens) * width].to_vec()
            }
        };
        let error = relative(&tensor.data, &expected);
        assert!(error < 2e-5, "{name}: {point}: {error:e}");
    }
}

/// A prompt in one go, then token by token, edited or not; what is taken is taken once.
#[test]
fn a_session_sees_what_a_whole_forward_sees() {
    for name in DECODERS {
        let (decoder, ids) = decoder(name);
        let model = decoder.model();
        let points = Point::of_model(model.spec());
        let edits = [Edit::new(Point::new(0, Kind::MlpOut), Action::Scale(0.5)).of_tokens(2..ids.len() + 1)];
        for edits in [&edits[..0], &edits] {
            let mut session = decoder.session(watching(&points, edits)).unwrap();
            assert!(session.captured().1.tensors.is_empty());
            session.prefill_blocking(&ids).unwrap();
            let prompt = session.captured();
            let mut parts = vec![prompt];
            go_on(&mut session, 2);
            parts.push(session.captured());
            // the same token is run twice
            session.logits_blocking().unwrap();
            go_on(&mut session, 1);
            parts.push(session.captured());
            let watch = Watch { taps: points.clone(), edits: vec![Point::new(0, Kind::MlpOut)], ..Watch::default() };
            let probe = pollster::block_on(Probe::new(model, &Purpose::Trace, watch)).unwrap();
            let look = Look { edits, ..Look::new(session.tokens()) };
            let whole = probe.run_blocking(&[look]).unwrap().remove(0).trace;
            let mut next = 0;
            for (first, trace) in &parts {
                assert_eq!(*first, next, "{name}");
                compare(name, trace, *first, &whole);
                next += trace.ids.len();
            }
            // all but the last token, which has not been run
            assert_eq!(next, session.tokens().len() - 1, "{name}");
        }
    }
}

/// Taps change no bit, of the own session or of one beside it, and each session has its own.
#[test]
fn taps_change_no_bit() {
    let (decoder, ids) = decoder("qwen3_norm");
    let points = Point::of_model(decoder.model().spec());
    let mut plain = decoder.session(watching(&[], &[])).unwrap();
    plain.prefill_blocking(&ids).unwrap();
    go_on(&mut plain, 4);
    let one = [Point::new(1, Kind::ResidMid), Point::new(0, Kind::Pattern)];
    let mut sessions = [&points[..], &[], &one].map(|taps| decoder.session(watching(taps, &[])).unwrap());
    sessions.iter_mut().for_each(|session| session.prefill_blocking(&ids).unwrap());
    for _ in 0..4 {
        let [a, b, c] = &mut sessions;
        decoder.step_blocking(&mut [a, b, c]).unwrap();
    }
    let [mut all, mut none, mut some] = sessions;
    let logits = bits(&plain.logits_blocking().unwrap());
    for session in [&mut all, &mut none, &mut some] {
        assert_eq!(session.tokens(), plain.tokens());
        assert_eq!(bits(&session.logits_blocking().unwrap()), logits);
    }
    let [(_, all), (_, none), (_, some)] = [&mut all, &mut none, &mut some].map(|session| session.captured());
    assert!(none.tensors.is_empty());
    assert_eq!(all.tensors.len(), points.len());
    assert_eq!(some.tensors.keys().copied().collect::<std::collections::BTreeSet<_>>(), one.into_iter().collect());
    for (point, tensor) in &some.tensors {
        assert_eq!(bits(&tensor.data), bits(&all.tensors[point].data), "{point}");
    }
}

/// What was cut off is gone, what is run again takes its place, and a fork begins with nothing.
#[test]
fn tokens_that_are_run_again() {
    let (decoder, ids) = decoder("llama_gqa");
    let points = [Point::new(1, Kind::ResidPost)];
    let mut session = decoder.session(watching(&points, &[])).unwrap();
    session.prefill_blocking(&ids).unwrap();
    session.truncate(3);
    let (first, cut) = session.fork().captured();
    assert!(first == 0 && cut.ids.is_empty() && cut.tensors.is_empty());
    let (first, cut) = session.captured();
    assert_eq!((first, &cut.ids[..], &cut.tensors[&points[0]].shape[..1]), (0, &ids[..3], &[3][..]));
    // all but the last
    session.prefill_blocking(&[7, 8]).unwrap();
    let (first, again) = session.captured();
    assert_eq!((first, &again.ids[..]), (3, &[7][..]));
    // from the beginning, in another way
    session.set_edits(Arc::new([Edit::new(Point::new(0, Kind::MlpOut), Action::Scale(0.0))])).unwrap();
    session.logits_blocking().unwrap();
    let (first, edited) = session.captured();
    assert_eq!((first, &edited.ids[..]), (0, session.tokens()));
    let row = |trace: &Trace| bits(&trace.tensors[&points[0]].data[..decoder.model().spec().hidden_size]);
    assert_ne!(row(&edited), row(&cut));
    let wrong = decoder.session(watching(&[Point::new(99, Kind::Z)], &[]));
    assert!(matches!(wrong, Err(Error::Input(ref what)) if what.contains("blocks.99")), "{wrong:?}");
}
