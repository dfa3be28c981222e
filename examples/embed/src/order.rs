//! `place-order`: a command that reads the customer's orders, decides, and appends `OrderPlaced`.
//!
//! A customer's orders are the stream `orders-<customer>`, in which every event is an order. Orders
//! are numbered by customer without holes, which is why the decision demands that the stream still
//! be as it was read: of two orders at once one is decided again, and gets the next number.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidewire_eventstore::{EventType, NewEvent, StreamName};
use tidewire_transport::commands::{CommandError, Context, Decision};

/// What there is to buy, with prices in cents.
const PRICES: &[(&str, u64)] = &[("apple", 40), ("bread", 350), ("cheese", 1290)];

/// Pieces of one thing in one order.
const QUANTITY_MAX: u64 = 100;

/// What the client asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaceOrder {
    /// Who orders.
    customer: String,
    /// What.
    items: Vec<Item>,
}

/// One line of an order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    /// What.
    product: String,
    /// How many pieces.
    quantity: u64,
}

/// What the client is answered.
#[derive(Debug, Serialize)]
pub(crate) struct PlacedOrder {
    /// Names the order, such as `ann-3`.
    order: String,
    /// What it costs, in cents.
    total: u64,
}

/// What the log remembers.
#[derive(Debug, Serialize)]
struct OrderPlaced<'a> {
    order: &'a str,
    items: &'a [Item],
    total: u64,
}

/// Decides on an order.
///
/// # Errors
///
/// `empty_order`, `unknown_product`, `bad_quantity` and `bad_customer`, each with its details.
pub(crate) async fn place_order(
    context: Context,
    wish: PlaceOrder,
) -> Result<Decision<PlacedOrder>, CommandError> {
    let total = total(&wish.items)?;
    let stream = StreamName::new(&format!("orders-{}", wish.customer))
        .map_err(|error| CommandError::new("bad_customer", error.to_string()))?;
    let orders = context.stream(&stream).await?;
    let order = format!("{}-{}", wish.customer, orders.events.len() + 1);

    let placed = OrderPlaced { order: &order, items: &wish.items, total };
    let data = serde_json::to_vec(&placed)
        .map_err(|error| CommandError::new("not_written", error.to_string()))?;
    let event_type = EventType::new("OrderPlaced")
        .map_err(|error| CommandError::new("not_written", error.to_string()))?;
    let event = NewEvent::json(event_type, data);
    Ok(Decision::answer(PlacedOrder { order, total }).append(stream, orders.unchanged(), [event]))
}

fn total(items: &[Item]) -> Result<u64, CommandError> {
    if items.is_empty() {
        return Err(CommandError::new("empty_order", "an order has at least one item"));
    }
    items.iter().map(price).sum()
}

fn price(item: &Item) -> Result<u64, CommandError> {
    let known = PRICES.iter().find(|(product, _)| *product == item.product);
    let Some((_, price)) = known else {
        let error = CommandError::new("unknown_product", "there is no such product");
        return Err(error.with_details(json!({ "product": item.product })));
    };
    if !(1..=QUANTITY_MAX).contains(&item.quantity) {
        let error = CommandError::new("bad_quantity", "so many pieces cannot be ordered");
        return Err(error.with_details(json!({ "quantity": item.quantity, "max": QUANTITY_MAX })));
    }
    Ok(price * item.quantity)
}
