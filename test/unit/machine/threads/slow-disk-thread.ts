/**
 * The thread of a disk over a slow store: each read of a block stops in the middle for a moment, so that whatever may
 * happen between looking a slot up and reading it does.
 */
import { SegmentReader } from '../../../../src/store/segment-reader.ts'

const PAUSE_MS = 3
const whole = SegmentReader.prototype.readSync

SegmentReader.prototype.readSync = function readSync(slot, offsetInBlock, target) {
  const half = target.length >> 1
  pause()
  whole.call(this, slot, offsetInBlock, target.subarray(0, half))
  pause()
  whole.call(this, slot, offsetInBlock + half, target.subarray(half))
}

function pause(): void {
  const until = performance.now() + PAUSE_MS
  while (performance.now() < until);
}

await import('../../../../src/node/disk-thread-main.ts')
