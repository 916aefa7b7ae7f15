//! Sessions are made from a model, restored into a real directory, and what stands there is compared with the model.

mod damage;
mod hostile;
mod links;
mod resume;
mod round_trip;
mod rules;
mod unsynced;
mod world;
