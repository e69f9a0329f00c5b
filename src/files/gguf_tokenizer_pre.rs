//! How the values of `tokenizer.ggml.pre` cut a text before byte-level BPE, in the form of Hugging Face's files.
//!
//! The names in `known` have the form of the model's tokenizer.json. Those in `by_its_regex` are known only by the
//! expression that llama.cpp has for them, so that their texts may be composed or not, and split at digits otherwise.

use serde_json::{Value, json};

/// What a name stands for.
pub(super) struct Pre {
    /// Whether texts are composed (NFC) first.
    pub nfc: bool,
    /// The steps that cut a text, the last of which makes bytes of it.
    pub steps: Vec<Value>,
    /// Whether a stretch of text that is a token is not looked at any further.
    pub ignore_merges: bool,
    /// Whether a token goes in front of a text where the file does not say.
    pub add_bos: bool,
    /// Whether one goes behind it.
    pub add_eos: bool,
    /// The token that takes the white space on its left with it.
    pub mask: Option<&'static str>,
}

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|",
    r"\s+(?!\S)|\s+"
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|",
    r"'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|",
    r"'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"##,
    r##" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##
);
const BAILING: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|",
    r"\s+(?!\S)|\s+"
);
const SEED: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|",
    r"\s+(?!\S)|\s+"
);
const EXAONE_MOE: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
);
const MINICPM5: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|",
    r"\s+(?!\S)|\s+"
);
const JAIS2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|",
    r"\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
);
const BLOOM: &str = r" ?[^(\s|[.,!?…。，、।۔،])]+";

/// The letters with two cases of some older version of Unicode, which DeepSeek's first tokenizers write out.
const CASED: &str = "\
    \\x{41}-\\x{5A}\\x{61}-\\x{7A}\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\
    \\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\
    \\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\
    \\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\
    \\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\
    \\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\
    \\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\
    \\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\
    \\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\
    \\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\
    \\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\
    \\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\
    \\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\
    \\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\
    \\x{1E900}-\\x{1E943}";
const CJK: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
/// From U+0800 to U+D7FF where it was meant to be the scripts of East Asia.
const CJK_FIRST: &str = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+";
const PUNCTUATION: &str = r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+";

fn split(regex: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

fn digits(individual: bool) -> Value {
    json!({"type": "Digits", "individual_digits": individual})
}

/// Bytes, with GPT-2's expression before or without any.
fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

impl Pre {
    fn of(steps: Vec<Value>) -> Pre {
        Pre { nfc: false, steps, ignore_merges: false, add_bos: false, add_eos: false, mask: None }
    }

    /// GPT-2's own.
    fn gpt2() -> Pre {
        Pre::of(vec![byte_level(true)])
    }

    /// One digit at a time, then as GPT-2.
    fn digits_gpt2() -> Pre {
        Pre::of(vec![digits(true), byte_level(true)])
    }

    /// These expressions, one after another.
    fn splits(expressions: &[&str]) -> Pre {
        Pre::of(expressions.iter().map(|regex| split(regex)).chain([byte_level(false)]).collect())
    }

    /// These expressions, then one digit at a time.
    fn splits_and_digits(expressions: &[&str]) -> Pre {
        let steps = expressions.iter().map(|regex| split(regex));
        Pre::of(steps.chain([digits(true), byte_level(false)]).collect())
    }

    fn nfc(self) -> Pre {
        Pre { nfc: true, ..self }
    }

    fn whole_tokens(self) -> Pre {
        Pre { ignore_merges: true, ..self }
    }

    fn bos(self) -> Pre {
        Pre { add_bos: true, ..self }
    }

    fn around(self, mask: &'static str) -> Pre {
        Pre { add_bos: true, add_eos: true, mask: Some(mask), ..self }
    }
}

/// What a value of `tokenizer.ggml.pre` stands for, where it is known.
pub(super) fn pre_tokenizer(name: &str) -> Option<Pre> {
    known(name).or_else(|| by_its_regex(name))
}

/// The names of which a tokenizer.json is known.
fn known(name: &str) -> Option<Pre> {
    Some(match name {
        "default" | "gpt-2" | "phi-2" => Pre::gpt2(),
        "roberta-bpe" => Pre::gpt2().around("<mask>"),
        "mpt" | "olmo" => Pre::gpt2().nfc(),
        "modern-bert" => Pre::gpt2().nfc().around("[MASK]"),
        "smollm" | "starcoder" | "refact" => Pre::digits_gpt2(),
        "command-r" => Pre::digits_gpt2().nfc(),
        "llama3" | "llama-v3" | "llama-bpe" => Pre::splits(&[LLAMA3]).whole_tokens().bos(),
        "smaug-bpe" | "dbrx" => Pre::splits(&[LLAMA3]),
        "qwen2" | "deepseek-r1-qwen" => Pre::splits(&[QWEN2]).nfc(),
        "stablelm2" => Pre::splits(&[QWEN2]).nfc(),
        "qwen35" => Pre::splits(&[QWEN35]).nfc(),
        "tekken" => Pre::splits(&[TEKKEN]).whole_tokens().bos(),
        "gpt-4o" | "llama4" => Pre::splits(&[GPT4O]),
        "deepseek-llm" => {
            let letters = format!(r"\s?[{CASED}]+");
            Pre::splits_and_digits(&[r"[\r\n]", &letters, PUNCTUATION, r"\s+$", CJK_FIRST])
        }
        "deepseek-coder" => Pre::splits_and_digits(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK_FIRST]),
        "deepseek-v3" => Pre::splits(&[r"\p{N}{1,3}", CJK, DEEPSEEK3]),
        "falcon" => {
            let punctuation = json!({"type": "Punctuation", "behavior": "Contiguous"});
            Pre::of(vec![punctuation, byte_level(true), digits(false), split("[0-9][0-9][0-9]")])
        }
        "bloom" | "gpt3-finnish" | "poro-chat" => Pre::splits(&[BLOOM]),
        _ => return None,
    })
}

/// The names that are known by their regex.
fn by_its_regex(name: &str) -> Option<Pre> {
    Some(match name {
        "jina-es" | "jina-de" | "jina-v2-es" | "jina-v2-de" | "gigachat" | "a.x-4.0" | "mellum" | "exaone4"
        | "jais" | "trillion" | "granite-docling" => Pre::gpt2(),
        "jina-v1-en" | "jina-v2-code" => Pre::gpt2().around("<mask>"),
        "codeshell" | "exaone" | "minerva-7b" | "mellum2" => Pre::digits_gpt2(),
        "pixtral" | "midm-2.0" | "lfm2" | "jina-v5-nano" => Pre::splits(&[LLAMA3]).whole_tokens().bos(),
        "falcon3" | "falcon-h1" => Pre::splits(&[LLAMA3]).whole_tokens(),
        "glm4" | "chatglm-bpe" => Pre::splits(&[LLAMA3]),
        "kormo" | "f2llmv2" | "megrez" => Pre::splits(&[QWEN2]).nfc(),
        "hunyuan" | "solar-open" | "grok-2" => Pre::splits(&[QWEN2]),
        "kanana2" | "minimax-m2" => Pre::splits(&[GPT4O]),
        "hunyuan-dense" | "joyai-llm" => Pre::splits(&[r"\p{N}{1,3}", CJK, DEEPSEEK3]),
        "viking" => Pre::splits_and_digits(&[BLOOM]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => Pre::splits(&[BAILING]),
        "seed-coder" => Pre::splits(&[SEED]),
        "exaone-moe" => Pre::splits(&[EXAONE_MOE]),
        "minicpm5" => Pre::splits(&[r"\p{N}{1,3}", MINICPM5]).whole_tokens(),
        "jais-2" => Pre::splits(&[JAIS2]),
        "tiny_aya" | "cohere2moe" => Pre::splits(&[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_is_one() {
        let names = "gpt-2 roberta-bpe mpt modern-bert smollm command-r llama3 dbrx qwen2 stablelm2 qwen35 tekken \
                     gpt-4o deepseek-llm deepseek-coder deepseek-v3 falcon bloom jais jina-v1-en codeshell pixtral \
                     falcon3 glm4 kormo hunyuan kanana2 joyai-llm viking bailingmoe seed-coder exaone-moe minicpm5 \
                     jais-2 tiny_aya";
        for name in names.split_whitespace() {
            for step in pre_tokenizer(name).unwrap().steps {
                let step: Result<tokenizers::PreTokenizerWrapper, _> = serde_json::from_value(step);
                step.unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
        assert!(pre_tokenizer("").is_none());
    }
}
