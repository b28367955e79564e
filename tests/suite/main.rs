//! The program as a user runs it: recipes, rows and models in a folder of their own, the command line, and what it
//! leaves behind. One binary, so that the program is linked against once.

mod adapters;
mod bad_data;
mod bad_models;
mod bad_output;
mod bad_recipes;
mod batching;
mod bench;
mod brought;
mod card;
mod check;
mod cluster;
mod dependencies;
mod diffuse;
#[cfg(target_os = "linux")]
mod disk;
mod divergence;
mod dropout;
mod evaluation;
mod exact_match;
mod export;
mod files;
mod fixtures;
mod frozen_base;
mod head;
mod hostile;
mod house;
mod hub;
mod identity;
mod images;
mod init;
mod inspect;
mod intents;
mod judge;
mod keys;
mod limits;
mod messages;
mod objectives;
mod optima;
mod parity;
mod quantise;
mod references;
mod report_page;
mod resume;
mod rows;
mod samples;
mod sampling_sweeps;
mod schema;
mod six_steps;
mod streams;
mod support;
mod sweep;
#[cfg(target_os = "linux")]
mod terminal;
mod weights;
mod while_training;
