//! Streams, events, pinned memory and the allocator, as a GPU has them: what is done too early is seen.

use pipe_data::upload::{Uploads, pinned};
use pipe_data::{Batch, BatchField};
use pipe_native::scaler::{GradScaler, GradScalerState};
use pipe_native::stream::{Event, Stream, synchronize};
use pipe_native::{autocast, generator, memory, to_device};
use pipe_stand_in::{Kind as Traffic, Watch, set_capacity};
use tch::{Device, Kind, Tensor};

use crate::device::device;
use crate::program::alone;

const MIB: u64 = 1 << 20;

fn numbers() -> Tensor {
    Tensor::arange(1000, (Kind::Float, Device::Cpu))
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_device(Device::Cpu)).expect("numbers")
}

/// A copy of pinned memory that is under way on a stream of its own, and the point at which it is done.
fn under_way(pinned: &Tensor, device: Device) -> (Tensor, Event) {
    let (side, mut copied) = (Stream::side(device).unwrap(), Event::new(device).unwrap());
    let there = side.with(|| {
        let there = to_device(pinned, device, true).unwrap();
        copied.record().unwrap();
        there
    });
    (there.unwrap(), copied)
}

#[test]
fn a_copy_is_there_once_its_stream_was_waited_for() {
    let _alone = alone();
    let device = device();
    let pinned = numbers().pin_memory(device);
    assert!(pinned.is_pinned(device) && !numbers().is_pinned(device));

    let (there, copied) = under_way(&pinned, device);
    assert!(values(&(&there + 1.0)).iter().all(|x| x.is_nan()), "the planted fault: nobody waited");
    copied.block(&Stream::current(device).unwrap()).unwrap();
    assert_eq!(there.to_device(Device::Cpu), numbers());

    // The other ways to wait.
    let (there, copied) = under_way(&pinned, device);
    assert!(!copied.is_done().unwrap());
    copied.synchronize().unwrap();
    assert!(copied.is_done().unwrap());
    assert_eq!(there.to_device(Device::Cpu), numbers());
    let (there, _copied) = under_way(&pinned, device);
    synchronize(device).unwrap();
    assert_eq!(there.to_device(Device::Cpu), numbers());
    // Work on the same stream comes after it by itself.
    let side = Stream::side(device).unwrap();
    let sum = side.with(|| to_device(&pinned, device, true).unwrap().sum(Kind::Double).double_value(&[])).unwrap();
    assert_eq!(sum, 499_500.0);
}

#[test]
fn pinned_memory_is_not_filled_anew_too_early() {
    let _alone = alone();
    let device = device();
    let mut pinned = numbers().pin_memory(device);
    let (_there, copied) = under_way(&pinned, device);
    let _ = pinned.fill_(7.0);
    let error = copied.synchronize().expect_err("the planted fault: reuse before the event").to_string();
    assert!(error.contains("pinned memory was written to before its copy to the device was done"), "{error}");

    let (there, copied) = under_way(&pinned, device);
    copied.synchronize().unwrap();
    let _ = pinned.fill_(8.0);
    assert_eq!(values(&there), vec![7.0; 1000]);
}

#[test]
fn uploads_are_told_by_their_memory() {
    let _alone = alone();
    let device = device();
    let (host, pinned) = (numbers(), numbers().pin_memory(device));
    let watch = Watch::begin().unwrap();
    let count = |kind| watch.take().iter().filter(|count| count.kind == kind).map(|count| count.times).sum::<usize>();
    let _there = host.to_device(device);
    assert_eq!(count(Traffic::PageableUpload), 1);
    let _there = to_device(&pinned, device, true).unwrap();
    assert_eq!(watch.take(), [], "a copy beside the program's work");
    let _there = pinned.to_device(device);
    assert_eq!(count(Traffic::Wait), 1, "a blocking copy, though of pinned memory");
    synchronize(device).unwrap();
    let found = watch.take();
    let [waited] = &found[..] else { panic!("{found:?}") };
    assert_eq!((waited.operator.as_str(), waited.times), ("synchronize the device", 1));
    assert!(waited.place.starts_with("tests/stand_in/streams.rs:"), "{}", waited.place);
}

#[test]
fn a_batch_is_copied_ahead_and_waited_for_by_the_device_alone() {
    let _alone = alone();
    let device = device();
    let batch = |first: f32| {
        let mut batch = Batch::new(2);
        batch.set("image", BatchField::Stacked(numbers() + f64::from(first)));
        batch.set("boxes", BatchField::List(vec![numbers(), numbers() * 2.0]));
        pinned(&batch).unwrap()
    };
    let first = |batch: &Batch| values(batch.stacked("image").unwrap())[0];
    let (one, two, three) = (batch(1.0), batch(2.0), batch(3.0));
    let uploads = Uploads::default();
    let watch = Watch::begin().unwrap();
    uploads.begin(&one, device).unwrap();
    uploads.begin(&two, device).unwrap();
    let there = uploads.take(&one, device).unwrap();
    let sums = there.list("boxes").unwrap().iter().map(|boxes| boxes.sum(Kind::Float)).collect::<Vec<_>>();
    let next = uploads.take(&two, device).unwrap();
    // Before anything else could have waited.
    let sum = next.stacked("image").unwrap().sum(Kind::Double);
    let never_begun = uploads.take(&three, device).unwrap();
    assert!(watch.take().is_empty(), "nothing waits, and nothing is pageable");
    assert_eq!((first(&there), first(&next), first(&never_begun)), (1.0, 2.0, 3.0));
    assert_eq!(values(&sums[1].reshape([1])), [999_000.0]);
    assert_eq!(sum.double_value(&[]), 501_500.0);
    // A batch of the same size in other memory is another batch.
    uploads.begin(&one, device).unwrap();
    assert_eq!(first(&uploads.take(&batch(4.0), device).unwrap()), 4.0);
}

#[test]
fn what_waits_is_told_by_operator() {
    let _alone = alone();
    let device = device();
    let there = numbers().to_device(device);
    let (mask, whole) = (there.gt(500.0), there.to_kind(Kind::Int64));
    let watch = Watch::begin().unwrap();
    let told = |f: &dyn Fn() -> Tensor| {
        let _result = f();
        let found = watch.take();
        found
            .iter()
            .map(|count| format!("{} {} {}", count.kind as i32, count.operator, count.times))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&|| mask.nonzero()), ["0 aten::nonzero 1"]);
    assert_eq!(told(&|| there.masked_select(&mask)), ["0 aten::masked_select 1"]);
    assert_eq!(told(&|| there.index(&[Some(&mask)])), ["0 aten::index 1"]);
    assert_eq!(told(&|| there.index(&[Some(&whole)])), Vec::<String>::new(), "indices are numbers on the device");
    let host = Tensor::from_slice(&[1i64, 2]);
    assert_eq!(told(&|| there.index(&[Some(&host)])), ["1 aten::index 1"]);
    let value = Tensor::zeros([499], (Kind::Float, device));
    assert_eq!(told(&|| there.index_put(&[Some(&mask)], &value, false)), ["0 aten::_index_put_impl_ 1"]);
    let number = Tensor::from(0f32);
    assert_eq!(told(&|| there.index_put(&[Some(&mask)], &number, false)), Vec::<String>::new(), "that is a fill");
    assert_eq!(told(&|| Tensor::from(there.equal(&there))), ["0 aten::equal 1"]);
    assert_eq!(told(&|| whole.bincount(None::<&Tensor>, 0)), ["0 aten::bincount 1"]);
    assert_eq!(told(&|| whole.internal_unique2(true, false, false).0), ["0 aten::_unique2 1"]);
    assert_eq!(told(&|| whole.unique_dim(0, true, false, false).0), ["0 aten::unique_dim 1"]);
    let [few, repeats] = [there.narrow(0, 0, 2), whole.narrow(0, 1, 2)];
    assert_eq!(told(&|| few.repeat_interleave_self_tensor(&repeats, 0, None)), ["0 aten::repeat_interleave 1"]);
    assert_eq!(told(&|| few.repeat_interleave_self_tensor(&repeats, 0, 3)), Vec::<String>::new());
    assert_eq!(told(&|| Tensor::from(there.sum(Kind::Float).double_value(&[]))), ["0 aten::_local_scalar_dense 1"]);
    assert_eq!(told(&|| there.to_device(Device::Cpu)), ["0 copy to the CPU 1"]);
    assert_eq!(told(&|| (&there * 2.0 + &there).softmax(0, None)), Vec::<String>::new(), "work that nobody waits for");
}

#[test]
fn memory_has_a_capacity_and_a_peak() {
    let _alone = alone();
    let device = device();
    memory::forget(device).unwrap();
    let before = memory::allocated(device).unwrap();
    let held = Tensor::zeros([4 << 20], (Kind::Uint8, device));
    assert_eq!(memory::allocated(device).unwrap(), before + 4 * MIB);
    drop(held);
    assert_eq!(memory::allocated(device).unwrap(), before);
    assert!(memory::max_allocated(device).unwrap() >= before + 4 * MIB);
    memory::forget(device).unwrap();
    assert_eq!(memory::max_allocated(device).unwrap(), before);

    set_capacity(before + 4 * MIB).unwrap();
    assert_eq!(memory::free_and_total(device).unwrap(), (4 * MIB, before + 4 * MIB));
    let fits = Tensor::f_zeros([4 << 20], (Kind::Uint8, device));
    let more = Tensor::f_zeros([1], (Kind::Uint8, device));
    set_capacity(1 << 40).unwrap();
    assert!(fits.is_ok());
    let error = more.expect_err("no room").to_string();
    assert!(error.contains("out of memory") && error.contains("Tried to allocate 1 bytes"), "{error}");

    let unwritten = Tensor::empty([8], (Kind::Float, device));
    assert!(values(&unwritten).iter().all(|x| x.is_nan()));
}

#[test]
fn the_runtime_knows_the_device() {
    let _alone = alone();
    let device = device();
    let square = || numbers().narrow(0, 0, 9).reshape([3, 3]).to_device(device);
    let half = autocast(device, Some(Kind::BFloat16), || square().matmul(&square())).unwrap();
    assert_eq!((half.kind(), half.device()), (Kind::BFloat16, device));
    let untouched = autocast(Device::Cpu, Some(Kind::BFloat16), || square().matmul(&square())).unwrap();
    assert_eq!(untouched.kind(), Kind::Float, "autocast is of one device");

    assert_eq!(generator::devices(), [Device::Cpu, device]);
    let draw = || values(&Tensor::randn([16], (Kind::Float, device)));
    generator::seed(device, 5).unwrap();
    let kept = generator::state(device).unwrap();
    let first = draw();
    assert_ne!(draw(), first);
    generator::set_state(device, &kept).unwrap();
    assert_eq!(draw(), first);

    let mut scaler = GradScaler::new(device, GradScalerState::default()).unwrap();
    let before = scaler.state().unwrap().scale;
    scaler.unscale(&[Tensor::from_slice(&[1f32, f32::INFINITY]).to_device(device)]).unwrap();
    scaler.update().unwrap();
    assert!(scaler.state().unwrap().scale < before, "an overflow lowers the scale");
}
