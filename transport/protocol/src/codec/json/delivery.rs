//! Reliable delivery as JSON: what `subscribe` says of acknowledgements, `nack` and `command`.

use std::num::NonZeroU32;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidewire_eventstore::{
    CommandKey, CommandName, ConsumerName, GlobalPosition, NUMBER_MAX, Sharing,
};

use super::{
    client_message::Wire,
    read::{AsObject, Field, field, invalid, missing, name_error, present},
    write::{Object, number},
};
use crate::{
    codes::{ErrorBody, ErrorCode},
    command_name,
    messages::{CommandRequest, ConsumerRef, Delivery, Nack, NackAction},
};

/// Reads `ack`, `window` and `consumer`.
pub(super) fn delivery(wire: &Wire<'_>) -> Result<Delivery, ErrorBody> {
    let consumer = consumer(field("consumer", wire.consumer))?;
    let window = field("window", wire.window)
        .optional::<NonZeroU32>("has to be a whole number from 1 to welcome.limits.window")?;
    match (field("ack", wire.ack).text(usize::MAX)?.as_deref(), consumer) {
        (None | Some("each"), Some(consumer)) => Ok(Delivery::Consumer { consumer, window }),
        (Some("each"), None) => Ok(Delivery::Each { window }),
        (Some("none"), Some(_)) => Err(invalid("ack", "has to be \"each\" for a consumer")),
        (None | Some("none"), None) if window.is_some() => {
            Err(invalid("window", "goes with ack \"each\" only"))
        }
        (None | Some("none"), None) => Ok(Delivery::Plain),
        (Some(_), _) => Err(invalid("ack", "has to be \"none\" or \"each\"")),
    }
}

#[derive(Deserialize)]
struct WireConsumer<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    group: Option<&'a RawValue>,
}

fn consumer(of: Field<'_>) -> Result<Option<ConsumerRef>, ErrorBody> {
    const WHY: &str = "has to be a name, or {\"group\": name}";
    let Some(json) = of.raw() else { return Ok(None) };
    let (name, sharing) = if json.get().starts_with('{') {
        let AsObject(group): AsObject<WireConsumer<'_>> = of.required(WHY)?;
        (field(of.name, group.group).text(usize::MAX)?, Sharing::Group)
    } else if json.get().starts_with('"') {
        (of.text(usize::MAX)?, Sharing::Exclusive)
    } else {
        (None, Sharing::Exclusive)
    };
    let name = name.ok_or_else(|| invalid(of.name, WHY))?;
    let name = ConsumerName::new(&name).map_err(|error| name_error(of.name, error))?;
    Ok(Some(ConsumerRef { name, sharing }))
}

/// Reads the fields of `nack` but `sub`.
pub(super) fn nack(wire: &Wire<'_>) -> Result<Nack, ErrorBody> {
    const WHY: &str = "has to be a list of positions, at least one";
    const DELAY_WHY: &str = "has to be a whole number from 0 to 3600000";
    let positions: Vec<u64> = field("positions", wire.positions).required(WHY)?;
    if positions.is_empty() || positions.iter().any(|position| *position > NUMBER_MAX) {
        return Err(invalid("positions", WHY));
    }
    let delay = field("delay_ms", wire.delay_ms)
        .optional::<u64>(DELAY_WHY)?
        .map(std::time::Duration::from_millis);
    if delay.is_some_and(|delay| delay > Nack::DELAY_MAX) {
        return Err(invalid("delay_ms", DELAY_WHY));
    }
    let action = field("action", wire.action).text(usize::MAX)?;
    let action = match action.as_deref().ok_or_else(|| missing("action"))? {
        "retry" => NackAction::Retry { delay: delay.unwrap_or_default() },
        _ if delay.is_some() => return Err(invalid("delay_ms", "goes with action \"retry\" only")),
        "park" => NackAction::Park,
        "skip" => NackAction::Skip,
        "stop" => NackAction::Stop,
        _ => {
            return Err(invalid("action", "has to be \"retry\", \"park\", \"skip\" or \"stop\""));
        }
    };
    let reason = field("reason", wire.reason).text(Nack::REASON_BYTES_MAX)?;
    Ok(Nack {
        positions: positions.into_iter().map(GlobalPosition::new).collect(),
        action,
        reason: reason.map(Into::into),
    })
}

/// Reads the fields of `command` but `id`. The data shares memory with `whole`.
pub(super) fn command(wire: &Wire<'_>, whole: &Bytes) -> Result<CommandRequest, ErrorBody> {
    let name = field("name", wire.name).text(usize::MAX)?.ok_or_else(|| missing("name"))?;
    let name = command_name(&name).map_err(|error| name_error("name", error))?;
    command_named(name, wire, whole)
}

/// Reads the body of `POST /commands/{name}`: the fields of `command` without `type`, `id` and
/// `name`. The data shares memory with `body`.
///
/// # Errors
///
/// `invalid_message` for what is not a JSON object, else what the message would be refused for.
pub fn decode_command(name: CommandName, body: &Bytes) -> Result<CommandRequest, ErrorBody> {
    let AsObject::<Wire<'_>>(wire) = serde_json::from_slice(body)
        .map_err(|error| ErrorBody::new(ErrorCode::InvalidMessage, error.to_string()))?;
    command_named(name, &wire, body)
}

fn command_named(
    name: CommandName,
    wire: &Wire<'_>,
    whole: &Bytes,
) -> Result<CommandRequest, ErrorBody> {
    let key = field("key", wire.key).text(usize::MAX)?;
    Ok(CommandRequest {
        name,
        data: wire
            .data
            .map(|data| whole.slice_ref(data.get().as_bytes()))
            .ok_or_else(|| missing("data"))?,
        key: key
            .map(|key| CommandKey::new(&key).map_err(|error| name_error("key", error)))
            .transpose()?,
    })
}

pub(super) fn write_delivery(delivery: &Delivery, object: &mut Object<'_>) {
    match delivery {
        Delivery::Plain => {}
        Delivery::Each { .. } => object.string("ack", "each"),
        Delivery::Consumer { consumer, .. } => match consumer.sharing {
            Sharing::Exclusive => object.string("consumer", consumer.name.as_str()),
            Sharing::Group => {
                let mut inner = Object::begin(object.key("consumer"));
                inner.string("group", consumer.name.as_str());
                inner.end();
            }
        },
    }
    if let Some(window) = delivery.window() {
        object.number("window", u64::from(window.get()));
    }
}

pub(super) fn write_nack(nack: &Nack, object: &mut Object<'_>) {
    object.list("positions", &nack.positions, |position, out| number(position.get(), out));
    object.string("action", nack.action.as_str());
    if let NackAction::Retry { delay } = nack.action
        && !delay.is_zero()
    {
        object.number("delay_ms", u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    }
    if let Some(reason) = &nack.reason {
        object.string("reason", reason);
    }
}

pub(super) fn write_command(command: &CommandRequest, object: &mut Object<'_>) {
    object.string("name", command.name.as_str());
    object.raw("data", &command.data);
    if let Some(key) = &command.key {
        object.string("key", key.as_str());
    }
}
