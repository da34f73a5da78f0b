/**
 * Sets a peer's clock wrong: preloaded into its process (`node --import`), it moves the wall clock by ROWAN_TEST_CLOCK_MS.
 *
 * Durations and timers stay as they are, as with a computer whose clock was set wrong before it started.
 */
const shiftMs = Number(process.env.ROWAN_TEST_CLOCK_MS ?? 0)
const RealDate = Date

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, self) =>
    Reflect.construct(target, args.length === 0 ? [RealDate.now() + shiftMs] : args, self),
  get: (target, name, self) => (name === 'now' ? () => RealDate.now() + shiftMs : Reflect.get(target, name, self))
})
