//! The controller's end of a connection: whatever comes, however cut, means the same; nothing comes before initialisation; data
//! is as long as it was announced.

use crate::input::{Cuts, Input};
use fabric::tcp::framing::Digests;
use fabric::tcp::target::{Session, SessionConfig, Step};

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Initialized(Vec<u8>),
    Command(Vec<u8>, u32),
    Transfer(u16, u16, u32, u32, bool),
    Data(Vec<u8>),
    End(bool),
    Terminated,
    Refused(Vec<u8>),
}

/// One input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, cuts) = (input.byte(), input.byte());
    let config = SessionConfig {
        in_capsule_bytes: 8192,
        h2c_data_bytes_max: 16 << 10,
        digests: Digests {
            header: mode & 1 != 0,
            data: mode & 2 != 0,
        },
    };
    let stream = input.rest();
    let whole = read(config, stream, |rest| (rest, &[]));
    check(&whole);
    let mut cuts = Cuts::new(cuts);
    assert_eq!(
        read(config, stream, |rest| cuts.cut(rest)),
        whole,
        "cut, it means otherwise"
    );
}

fn read(config: SessionConfig, stream: &[u8], mut cut: impl FnMut(&[u8]) -> (&[u8], &[u8])) -> Vec<Told> {
    let (mut session, mut told, mut rest) = (Session::new(config), Vec::new(), stream);
    while !rest.is_empty() {
        let (mut piece, behind) = cut(rest);
        rest = behind;
        loop {
            let step = match session.read(&mut piece) {
                Ok(Some(step)) => step,
                Ok(None) => break,
                Err(fatal) => {
                    let mut answer = session.terminate(&fatal).to_vec();
                    // How much of the header had come is no matter; its status and information are.
                    answer.truncate(14);
                    answer[4..8].fill(0);
                    told.push(Told::Refused(answer));
                    return told;
                }
            };
            match step {
                Step::Initialized(answer) => told.push(Told::Initialized(answer.to_vec())),
                Step::Command(frame) => {
                    let entry = session.entry(&frame).to_bytes().to_vec();
                    told.push(Told::Command(entry, frame.data_length));
                }
                Step::Transfer(transfer) => told.push(Told::Transfer(
                    transfer.cid,
                    transfer.tag,
                    transfer.offset,
                    transfer.length,
                    transfer.last,
                )),
                Step::Data(data) => match told.last_mut() {
                    Some(Told::Data(before)) => before.extend(data),
                    _ => told.push(Told::Data(data.to_vec())),
                },
                Step::DataEnd { intact } => told.push(Told::End(intact)),
                Step::Terminated => {
                    told.push(Told::Terminated);
                    return told;
                }
            }
        }
    }
    told
}

fn check(told: &[Told]) {
    let mut announced = None;
    for (index, step) in told.iter().enumerate() {
        let first = matches!(step, Told::Initialized(_));
        let ends = matches!(step, Told::Terminated | Told::Refused(_));
        assert!(ends || first == (index == 0), "step {index}: {step:?}");
        match step {
            Told::Command(_, length) => announced = (*length > 0).then_some(*length),
            Told::Transfer(.., length, _) => announced = Some(*length),
            Told::Data(data) => {
                let length = announced.expect("data is announced");
                assert!(data.len() <= length as usize, "{} of {length} bytes", data.len());
                announced = Some(length - data.len() as u32);
            }
            Told::End(_) => assert_eq!(announced.take(), Some(0), "data ended early"),
            _ => {}
        }
    }
}
