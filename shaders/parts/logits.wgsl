// Logits as bits, of which some may be no numbers, and what becomes of them.

const LARGEST = 0x7e800000u; // 2^126
const NOTHING = 0x7f000000u; // 2^127: no number that a row can give, and an ordinary float
const LEAST = -3.4e38;

fn is_number(bits: u32) -> bool {
    return (bits & 0x7fffffffu) < LARGEST;
}

// The logit, and 0 for what is no number.
fn value_of(bits: u32) -> f32 {
    return bitcast<f32>(select(0u, bits, is_number(bits)));
}

fn number(value: f32, there: bool) -> u32 {
    return select(NOTHING, bitcast<u32>(value), there);
}

// log(1 + rest), also where 1 + rest would be 1: 2 artanh(rest / (2 + rest)) by its series.
fn log_of_one_and(rest: f32) -> f32 {
    if (rest < 0.5) {
        let z = rest / (2.0 + rest);
        let t = z * z;
        return 2.0 * z * (1.0 + t * (1.0 / 3.0 + t * (1.0 / 5.0 + t * (1.0 / 7.0 + t * (1.0 / 9.0)))));
    }
    return log(1.0 + rest);
}
