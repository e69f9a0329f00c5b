//! What passes the stream while a session reads and writes, beside a whole forward of the same text.

mod common;

use std::sync::Arc;

use common::{Expected, GPU, bits, fixtures, go_on, relative};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Action, Edit, Kind, Look, Point, Probe, Tap, Trace};
use thalweg::{Decoder, Error, SessionOptions};

const DECODERS: [&str; 7] =
    ["llama_gqa", "gemma2_odd", "gpt2_odd", "phi3_longrope", "qwen3_norm", "neox_parallel", "olmo2_odd"];

fn decoder(name: &str) -> (Decoder, Vec<u32>) {
    let decoder = Decoder::load_blocking(&GPU, fixtures(&format!("decoders/{name}"))).unwrap();
    (decoder, Expected::open(&format!("decoders/{name}")).ids("ids"))
}

fn watching(points: &[Point], edits: &[Edit]) -> SessionOptions {
    tapping(points.iter().map(Tap::from).collect(), edits)
}

fn tapping(taps: Vec<Tap>, edits: &[Edit]) -> SessionOptions {
    SessionOptions { ignore_eos: true, taps: taps.into(), edits: edits.into(), ..Default::default() }
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
            let watch = Watch { edits: vec![Point::new(0, Kind::MlpOut)], ..Watch::taps(&points) };
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

/// The part of a trace that a tap shows, of tokens from the first on.
fn part(whole: &Trace, tap: &Tap, decoder: &Decoder) -> Vec<u32> {
    let spec = decoder.model().spec();
    let (tensor, heads, rows) = (&whole.tensors[&tap.point], tap.heads(spec), tap.rows(whole.ids.len()));
    let all = tap.point.heads(spec);
    match tap.point.kind {
        Kind::Pattern => {
            let keys = tensor.shape[2];
            let row = |head: usize, row: usize| &tensor.data[(head * tensor.shape[1] + row) * keys..][..keys];
            bits(&heads.flat_map(|head| rows.clone().flat_map(move |at| row(head, at))).copied().collect::<Vec<_>>())
        }
        _ => {
            let size = tensor.data.len() / tensor.shape[0] / all;
            let row = |at: usize| &tensor.data[(at * all + heads.start) * size..(at * all + heads.end) * size];
            bits(&rows.flat_map(row).copied().collect::<Vec<_>>())
        }
    }
}

/// Narrowed taps of sessions, of prompt and continuation, alone and beside sessions with other taps: to the bit what taps of
/// whole points show.
#[test]
fn some_tokens_and_heads_of_a_session() {
    for name in ["qwen3_norm", "gemma2_odd", "neox_parallel"] {
        let (decoder, ids) = decoder(name);
        let spec = decoder.model().spec();
        let n = ids.len();
        assert!(n > 6, "{name}");
        let points = Point::of_model(spec);
        let narrowed = |tokens: std::ops::Range<usize>, head: usize| -> Vec<Tap> {
            let head = |point: &Point| head % point.heads(spec);
            let of = |point: &Point| match point.kind.has_heads() {
                true => Tap::from(point).of_heads(head(point)..head(point) + 1).of_tokens(tokens.clone()),
                false => Tap::from(point).of_tokens(tokens.clone()),
            };
            points.iter().map(of).collect()
        };
        let mixed = vec![
            Tap::from(Point::new(0, Kind::Z)).of_heads(1..2),
            Tap::from(Point::new(1, Kind::ResidPost)).of_tokens(1..3),
            Tap::from(Point::new(1, Kind::Pattern)).of_tokens(2..n + 2),
            Tap::from(Point::new(1, Kind::V)),
        ];
        let choices = [narrowed(2..5, 0), narrowed(n - 2..n + 3, 1), narrowed(n + 1..n + 2, 0), mixed];
        let taps = std::iter::once(points.iter().map(Tap::from).collect()).chain(choices.iter().cloned());
        let mut sessions: Vec<_> = taps.map(|taps| decoder.session(tapping(taps, &[])).unwrap()).collect();
        sessions.iter_mut().for_each(|session| session.prefill_blocking(&ids).unwrap());
        for _ in 0..5 {
            let [a, b, c, d, e] = &mut sessions[..] else { unreachable!() };
            decoder.step_blocking(&mut [a, b, c, d, e]).unwrap();
        }
        let mut traces = sessions.iter_mut().map(|session| session.captured());
        let (first, whole) = traces.next().unwrap();
        assert_eq!((first, whole.ids.len()), (0, n + 4));
        for (taps, (first, trace)) in choices.iter().zip(traces) {
            assert_eq!((first, &trace.ids, trace.tensors.len()), (0, &whole.ids, taps.len()), "{name}");
            for tap in taps {
                let found = &trace.tensors[&tap.point];
                assert_eq!(found.shape, tap.shape(spec, n + 4), "{name}: {tap}");
                assert_eq!(bits(&found.data), part(&whole, tap, &decoder), "{name}: {tap}");
            }
        }
    }
}

#[test]
fn taps_of_nothing_are_refused() {
    let (decoder, _) = decoder("llama_gqa");
    let z = || Tap::from(Point::new(0, Kind::Z));
    let wrong = [
        (vec![z().of_heads(99..100)], "99..100"),
        (vec![z().of_tokens(3..3)], "no token"),
        (vec![Tap::from(Point::new(0, Kind::ResidMid)).of_heads(0..1)], "has none"),
        (vec![z(), z().of_tokens(0..1)], "tapped twice"),
    ];
    for (taps, what) in wrong {
        let found = decoder.session(tapping(taps, &[]));
        assert!(matches!(found, Err(Error::Input(ref said)) if said.contains(what)), "{found:?}");
    }
    // tokens that have not come yet are nothing
    let mut session = decoder.session(tapping(vec![z().of_tokens(50..51)], &[])).unwrap();
    session.prefill_blocking(&[1, 2, 3]).unwrap();
    let (first, trace) = session.captured();
    assert!(first == 0 && trace.ids.len() == 2 && trace.tensors.is_empty());
}
