//! Ranks as threads of this process: each with connections of its own, as processes have.

use std::thread;
use std::time::{Duration, Instant};

use pipe_native::distributed::{Group, Store};
use tch::{Device, Kind, Tensor};

const SOON: Duration = Duration::from_secs(30);

/// Runs `work` on each of so many ranks, connected.
fn ranks<T: Send>(size: usize, work: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let server = Store::connect("127.0.0.1", 0, true, SOON).unwrap();
    let port = server.port();
    let one = |rank| {
        let store = Store::connect("127.0.0.1", port, false, SOON).unwrap().prefixed("data").unwrap();
        work(Group::gloo(&store, (rank, size), None, Some("127.0.0.1"), SOON).unwrap())
    };
    thread::scope(|scope| {
        let ranks: Vec<_> = (0..size).map(|rank| scope.spawn(move || one(rank))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn filled(value: f64) -> Tensor {
    Tensor::full([3], value, (Kind::Double, Device::Cpu))
}

#[test]
fn a_store_is_one_for_all() {
    let server = Store::connect("127.0.0.1", 0, true, SOON).unwrap();
    let client = Store::connect("127.0.0.1", server.port(), false, SOON).unwrap();
    let missing = client.get("word", Duration::from_millis(50)).unwrap_err().to_string();
    assert!(missing.contains("word"), "{missing}");
    server.set("word", b"a\0b").unwrap();
    assert_eq!(client.get("word", SOON).unwrap(), b"a\0b");
    assert_eq!((client.add("n", 2).unwrap(), server.add("n", 3).unwrap()), (2, 5));
    let apart = client.prefixed("other").unwrap();
    assert!(apart.get("word", Duration::from_millis(50)).is_err());
    assert!(client.set("a\0b", b"").unwrap_err().to_string().contains("zero byte"));
}

#[test]
fn collectives_join_the_values_of_all_ranks() {
    let seen = ranks(3, |group| {
        let own = group.rank() as f64;
        let (mut sum, mut told) = (filled(own + 1.0), filled(own));
        group.all_reduce(&mut sum).unwrap();
        group.broadcast(&mut told, 1).unwrap();
        // d/dx of (rank + 1) · (Σ x)², on each rank, where Σ x is 6: 12 · (1 + 2 + 3).
        let x = filled(own + 1.0).set_requires_grad(true);
        let all = group.shared_sum(&x).unwrap();
        ((own + 1.0) * all.square().sum(Kind::Double)).backward();
        [&sum, &told, &all, &x.grad()].map(|tensor| tensor.double_value(&[2]))
    });
    for rank in seen {
        assert_eq!(rank, [6.0, 1.0, 6.0, 72.0]);
    }
}

#[test]
fn a_rank_that_does_not_come_is_an_error_and_no_wait_for_ever() {
    let server = Store::connect("127.0.0.1", 0, true, SOON).unwrap();
    let begun = Instant::now();
    let short = Duration::from_millis(300);
    let error = Group::gloo(&server, (0, 2), None, Some("127.0.0.1"), short).unwrap_err();
    assert!(begun.elapsed() < SOON, "{error}");
    let error = Group::gloo(&server, (2, 2), None, None, short).unwrap_err().to_string();
    assert_eq!(error, "there is no rank 2 among 2");
}

/// Gradients of a network of which each rank uses other parts, `[one weight each]`; `None` where there is none.
fn gradients(group: &Group, backwards: usize) -> Vec<Option<f64>> {
    let own = group.rank() as f64 + 1.0;
    // The second is larger than a first bucket, so there are several.
    let lengths = [4, 300_000, 5, 6];
    let params: Vec<Tensor> =
        lengths.iter().map(|n| Tensor::ones([*n], (Kind::Float, Device::Cpu)).set_requires_grad(true)).collect();
    let reducer = group.reducer(&params).unwrap();
    assert!(reducer.is_of(&params) && !reducer.is_of(&params[..2]));
    for turn in 0..backwards {
        if turn + 1 == backwards {
            reducer.arm().unwrap();
        }
        // The first is used by all, the second twice, the third by the last rank only, the fourth by none.
        let mut loss = (&params[0] * own).sum(Kind::Float)
            + (&params[1] * own).sum(Kind::Float) * 2.0
            + params[1].sum(Kind::Float);
        if group.rank() + 1 == group.size() {
            loss += params[2].sum(Kind::Float) * 12.0;
        }
        loss.backward();
    }
    reducer.finish(true).unwrap();
    params.iter().map(|param| Some(param.grad()).filter(Tensor::defined).map(|grad| grad.double_value(&[-1]))).collect()
}

#[test]
fn gradients_are_those_of_all_ranks_together() {
    for rank in ranks(3, |group| gradients(&group, 1)) {
        // 1 + 2 + 3, 2 (1 + 2 + 3) + 3, 12.
        assert_eq!(rank, [Some(6.0), Some(15.0), Some(12.0), None]);
    }
    // What was added up before is sent with the last.
    for rank in ranks(2, |group| gradients(&group, 2)) {
        assert_eq!(rank, [Some(6.0), Some(16.0), Some(24.0), None]);
    }
}

#[test]
fn a_rank_without_a_batch_takes_part() {
    let seen = ranks(2, |group| {
        let param = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let reducer = group.reducer(&[param.shallow_clone()]).unwrap();
        let mut all = Vec::new();
        for used in [true, false] {
            let mut param = param.shallow_clone();
            param.zero_grad();
            reducer.arm().unwrap();
            if group.rank() == 0 {
                (&param * 3.0).sum(Kind::Float).backward();
            }
            reducer.finish(used).unwrap();
            all.push(param.grad().double_value(&[1]));
        }
        let mut grad = param.grad();
        let _ = grad.fill_(group.rank() as f64);
        reducer.arm().unwrap();
        reducer.finish(true).unwrap();
        all.push(param.grad().double_value(&[1]));
        all
    });
    // What is not to be used leaves a rank's own: rank 1 has had its gradient zeroed.
    assert_eq!(seen, [[3.0, 3.0, 1.0], [3.0, 0.0, 1.0]]);
}
