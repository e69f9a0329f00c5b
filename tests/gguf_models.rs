//! Models from GGUF files as llama.cpp's converter writes them, against Hugging Face's results for the folders that they
//! were converted from, and quantised ones against llama.cpp.

mod common;

use common::{Expected, GPU, fixtures, go_on, published, relative, session};
use thalweg::files::{Checkpoint, GgmlType};
use thalweg::kernels::{Reduce, Rows, attention, matmul, matvec};
use thalweg::model::to_gguf::write_gguf;
use thalweg::schedule::Choices;
use thalweg::stream::{Kind, Point, Trace};
use thalweg::{Decoder, Dtype, Encoder, LoadOptions, Message, Model};

/// Largest relative error of any stream point, and of logits: that of the folders themselves.
const TOLERANCE: f64 = 2e-5;

/// Of logits, to those of the same blocks widened to f32.
const QUANTISED_TOLERANCE: f64 = 1e-3;

/// Wide enough for blocks of 256 elements. No kernel reads Q4_1.
const QUANTISED: [&str; 6] =
    ["llama_256_q8_0", "llama_256_q4_0", "llama_256_q4_k", "llama_256_q5_k", "llama_256_q6_k_fused", "llama_256_q4_1"];

fn gguf(name: &str, options: LoadOptions) -> Model {
    let path = fixtures(&format!("gguf/models/{name}.gguf"));
    Model::load_blocking(&GPU, path, options).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn beside(name: &str) -> Expected {
    Expected(Checkpoint::open_file(&fixtures(&format!("gguf/models/{name}.safetensors"))).unwrap())
}

fn compare(name: &str, expected: &Expected, trace: &Trace) -> usize {
    let known: Vec<_> = trace.tensors.iter().filter(|(point, _)| expected.has(&point.to_string())).collect();
    for (point, tensor) in &known {
        let point_name = point.to_string();
        assert_eq!(tensor.shape, expected.shape(&point_name), "{name}: {point}");
        let error = relative(&tensor.data, &expected.f32(&point_name));
        assert!(error <= TOLERANCE, "{name}: {point}: relative error {error:e}");
    }
    known.len()
}

#[test]
fn every_point_of_the_stream_is_that_of_the_folder() {
    let folders = [
        ("decoders", "gpt2_odd", "gpt2_odd"),
        ("decoders", "llama_gqa", "llama_gqa"),
        ("decoders", "llama_gqa", "llama_gqa_fused"),
        ("decoders", "llama_linear", "llama_linear"),
        ("decoders", "llama_llama3", "llama_llama3"),
        ("decoders", "llama_mha", "llama_mha"),
        ("decoders", "llama_mqa_bias", "llama_mqa_bias"),
        ("decoders", "llama_yarn", "llama_yarn"),
        ("decoders", "phi3_fused", "phi3_fused"),
        ("decoders", "phi3_longrope", "phi3_longrope"),
        ("decoders", "qwen2_bias", "qwen2_bias"),
        ("decoders", "qwen3_norm", "qwen3_norm"),
        ("models", "bert_odd", "bert_odd"),
        ("models", "roberta_odd", "roberta_odd"),
    ];
    for (kind, folder, name) in folders {
        let expected = Expected::open(&format!("{kind}/{folder}"));
        let model = gguf(name, LoadOptions::default());
        let points = published(model.spec());
        let trace = model.trace_blocking(&expected.ids("ids"), &points).unwrap();
        // an encoder's embedding and, in all, every point that Hugging Face's stream has
        let compared = compare(name, &expected, &trace);
        assert!(compared + 1 >= points.len(), "{name}: {compared} of {} points", points.len());
    }
}

#[test]
fn gemmas_inputs_of_blocks_and_logits_are_hugging_faces() {
    for (name, blocks) in [("gemma2", 3), ("gemma3", 7)] {
        let expected = beside(name);
        let model = gguf(name, LoadOptions::default());
        let trace = model.trace_blocking(&expected.ids("ids"), &published(model.spec())).unwrap();
        assert_eq!(compare(name, &expected, &trace), blocks + 1);
    }
}

fn logits(model: &Model, ids: &[u32]) -> Vec<f32> {
    let mut trace = model.trace_blocking(ids, &[Point::new(0, Kind::Logits)]).unwrap();
    trace.tensors.pop_first().unwrap().1.data
}

#[test]
fn quantised_logits_are_those_of_the_widened_blocks() {
    for name in QUANTISED {
        let expected = beside(name);
        let ids = expected.ids("ids");
        let as_stored = gguf(name, LoadOptions::default());
        let widened = gguf(name, LoadOptions { dtype: Dtype::F32, ..Default::default() });
        assert!(as_stored.weight_bytes() * 2 <= widened.weight_bytes() + 2048, "{name}: blocks were expanded");
        let (ours, wide) = (logits(&as_stored, &ids), logits(&widened, &ids));
        let error = relative(&ours, &wide);
        assert!(error <= QUANTISED_TOLERANCE, "{name}: {error:e} from the widened blocks");
        let theirs = expected.f32("logits_f32");
        let error = relative(&ours, &theirs);
        assert!(error <= QUANTISED_TOLERANCE, "{name}: {error:e} from llama.cpp's logits of the widened blocks");
        // llama.cpp rounds activations to 8 bits: no result can be nearer to its own than it is to itself
        let noise = relative(&expected.f32("logits"), &theirs);
        let error = relative(&ours, &expected.f32("logits"));
        assert!(error <= 1.05 * noise, "{name}: {error:e} from llama.cpp, whose own noise is {noise:e}");
    }
}

/// In prefill and in a step, with every variant of the products.
#[test]
fn sessions_read_blocks_too() {
    let subgroups = GPU.capabilities().subgroups.is_some();
    let reduces = Reduce::ALL.into_iter().filter(|reduce| subgroups || *reduce == Reduce::Workgroup);
    let for_gpus = |reduce| Choices {
        matmul: matmul::Form::Workgroup,
        matvec: matvec::Form::Depth,
        attention: attention::Form::Uniform,
        reduce,
        sums: Rows::Shared(reduce),
    };
    let choices: Vec<_> = reduces.map(for_gpus).map(Some).chain([None]).collect();
    for name in QUANTISED {
        let path = fixtures(&format!("gguf/models/{name}.gguf"));
        let ids = beside(name).ids("ids");
        let logits = |dtype, choices| {
            let options = LoadOptions { dtype, choices, ..Default::default() };
            let decoder = pollster::block_on(Decoder::load_with(&GPU, &path, options)).unwrap();
            let mut session = session(&decoder);
            session.prefill_blocking(&ids).unwrap();
            session.logits_blocking().unwrap()
        };
        let widened = logits(Dtype::F32, None);
        for &choices in &choices {
            let error = relative(&logits(Dtype::Auto, choices), &widened);
            assert!(error <= QUANTISED_TOLERANCE, "{name} {choices:?}: {error:e} from the widened blocks");
        }
    }
}

/// The files that this crate writes, of the folders that llama.cpp has an architecture for.
#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let folders = [
        "gpt2_odd",
        "llama_gqa",
        "llama_linear",
        "llama_llama3",
        "llama_mha",
        "mistral_window",
        "qwen2_bias",
        "qwen3_norm",
    ];
    for name in folders {
        let folder = fixtures(&format!("decoders/{name}"));
        let path = dir.path().join(format!("{name}.gguf"));
        write_gguf(&folder, &path, GgmlType::F32, &Default::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = Expected::open(&format!("decoders/{name}"));
        let (read, original) = [&path, &folder].map(|model| Decoder::load_blocking(&GPU, model).unwrap()).into();
        let points = published(read.model().spec());
        let trace = read.model().trace_blocking(&expected.ids("ids"), &points).unwrap();
        assert_eq!(compare(name, &expected, &trace), points.len());
        let mut session = session(&read);
        session.prefill_blocking(&expected.ids("ids")).unwrap();
        assert_eq!(go_on(&mut session, 64), expected.ids("greedy"), "{name}");
        for text in ["The river carries water.", " 12  rivers\n\nflow", "w\u{e4}sser \u{1f30a}", ""] {
            let encode = |decoder: &Decoder| decoder.model().encode(text).unwrap();
            assert_eq!(encode(&read), encode(&original), "{name}: {text:?}");
        }
    }
    let path = dir.path().join("bert.gguf");
    let folder = fixtures("models/bert_odd");
    write_gguf(&folder, &path, GgmlType::F32, &Default::default()).unwrap();
    let (read, original) = [&path, &folder].map(|model| Encoder::load_blocking(&GPU, model).unwrap()).into();
    let texts = ["the river runs deep", "Two rivers meet; one is COLD."];
    let (ours, theirs) = (read.embed_blocking(&texts).unwrap(), original.embed_blocking(&texts).unwrap());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let error = relative(ours, theirs);
        assert!(error <= TOLERANCE, "bert_odd: {error:e}");
    }
}

/// The template, and the tokens that it names, travel with the file.
#[test]
fn chat_templates_are_those_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(fixtures("decoders/llama_mha")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}";
    std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
    let path = dir.path().join("chat.gguf");
    write_gguf(&folder, &path, GgmlType::Q8_0, &Default::default()).unwrap();
    let messages = [Message::user("Is the river deep?"), Message::assistant("It is.")];
    let rendered = [&folder, &path].map(|model| {
        let model = Model::load_blocking(&GPU, model, LoadOptions::default()).unwrap();
        model.chat_template().unwrap().expect("it has one").render(&messages, false).unwrap()
    });
    assert_eq!(rendered[0], "<s>[user]Is the river deep?</s>[assistant]It is.</s>");
    assert_eq!(rendered[1], rendered[0]);
    let without = fixtures("gguf/models/llama_mha.gguf");
    let model = Model::load_blocking(&GPU, without, LoadOptions::default()).unwrap();
    assert!(model.chat_template().unwrap().is_none());
}
