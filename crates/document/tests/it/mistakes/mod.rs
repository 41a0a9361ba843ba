//! One test a mistake: the text of a pipeline, and all that the user sees of what is wrong with it.

mod parents;
mod sets;
mod syntax;
mod variables;
