//! Bytes from outside, every one of them distrusted: safetensors, configs, tokenizers.
