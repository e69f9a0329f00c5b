// Rows are read and written element by element.

alias Element = f32;
const WIDTH = 1u;

fn across(e: Element) -> f32 {
    return e;
}
