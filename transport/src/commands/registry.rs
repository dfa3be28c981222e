//! Which handler handles which name.

use std::{collections::HashMap, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tidewire_eventstore::CommandName;
use tidewire_projections::collection::EDIT_COMMAND;

use super::{
    Collections,
    handler::{AnyHandler, CommandHandler, Typed},
};

/// The handlers by name, as the application registers them.
#[derive(Default)]
pub(crate) struct Registry {
    handlers: HashMap<CommandName, Arc<dyn AnyHandler>>,
    /// The first name that could not be registered, and why.
    wrong: Option<(String, &'static str)>,
}

impl Registry {
    /// Registers `handler` for `name`. What is wrong with a name is kept for [`Self::check`].
    pub(crate) fn add<H, Input, Output>(&mut self, name: &str, handler: H)
    where
        H: CommandHandler<Input, Output>,
        Input: DeserializeOwned + Send + 'static,
        Output: Serialize + Send + 'static,
    {
        let wrong = match CommandName::new(name) {
            Err(_) => "is not a name",
            Ok(name) => match self.handlers.insert(name, Arc::new(Typed::new(handler))) {
                None => return,
                Some(_) => "has two handlers",
            },
        };
        self.wrong.get_or_insert_with(|| (name.to_owned(), wrong));
    }

    /// Registers the handler of the edits of collections.
    pub(crate) fn add_collections(&mut self, collections: Collections) {
        let name = CommandName::recorded(EDIT_COMMAND).expect("it is a name of Tidewire's own");
        self.handlers.insert(name, Arc::new(Typed::new(collections)));
    }

    /// Finds a name that is none, or that has two handlers.
    ///
    /// # Errors
    ///
    /// The name, and what is wrong with it.
    pub(crate) fn check(&mut self) -> Result<(), (String, &'static str)> {
        self.wrong.take().map_or(Ok(()), Err)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }

    pub(super) fn find(&self, name: &CommandName) -> Option<Arc<dyn AnyHandler>> {
        self.handlers.get(name).cloned()
    }
}
