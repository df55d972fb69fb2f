//! Properties over random input: what goes in comes out, whatever the bytes, their number and how they are written.

mod round_trip;
