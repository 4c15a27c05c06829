// Long work in pieces of a few milliseconds, so that dragging stays smooth.

/**
 * Make a runner of generators. `run(work, show)` goes on with the generator for `budget` milliseconds at a time and calls
 * `show(done)` after each piece; the first piece is run at once. A new run drops the one before.
 */
export function pieces(budget = 6) {
  let current = 0;
  return function run(work, show) {
    const mine = ++current;
    const next = () => {
      if (mine !== current) return;
      const end = performance.now() + budget;
      let done = false;
      while (!done && performance.now() < end) done = work.next().done;
      show(done);
      if (!done) setTimeout(next);
    };
    next();
  };
}
