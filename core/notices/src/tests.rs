mod history;
mod late;
mod lines;
mod net;
mod queue;
mod seeds;
mod watching;
