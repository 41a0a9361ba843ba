//! Every input of the corpus is read again: those of findings that were mended, and one of each format.

use pipe_fuzz::targets::{Folder, TARGETS};
use pipe_fuzz::{corpus, inputs};

#[test]
fn every_input_gets_an_answer() {
    let folder = Folder::new().unwrap();
    let mut count = 0;
    for target in &TARGETS {
        let inputs = inputs(&corpus(target.name)).unwrap();
        assert!(!inputs.is_empty(), "no inputs for {}", target.name);
        let mut good = 0;
        for (path, input) in inputs {
            println!("{}", path.display());
            let answer = (target.run)(&folder, &input);
            println!("  {}", answer.as_ref().err().map_or_else(|| "fine".into(), |error| format!("{error:#}")));
            good += usize::from(answer.is_ok());
            count += 1;
        }
        assert!(good > 0, "not one input of {} is read: the corpus is out of date", target.name);
    }
    println!("{count} inputs");
}
