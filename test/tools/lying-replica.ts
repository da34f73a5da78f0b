/**
 * Makes a peer lie: preloaded into its process (`node --import`), it serves every block with one byte changed.
 *
 * Everything else is the real peer: it holds the true image, announces it and answers in the real protocol. So the
 * wrong bytes arrive over the wire with nothing else wrong about them.
 */
import { BlockReader } from '../../src/swarm/block-reader.ts'
import { bodyOf } from '../../src/swarm/frames.ts'

const honest = BlockReader.prototype.frame
BlockReader.prototype.frame = function (this: BlockReader, image, block, handle) {
  const plain = honest.call(this, image, block, handle, false)
  return plain instanceof Promise ? plain.then(changed) : changed(plain)
}

function changed(frame: Uint8Array | undefined): Uint8Array | undefined {
  if (frame === undefined) return undefined
  const copy = Uint8Array.from(frame)
  bodyOf(copy)[1000]! ^= 0xff
  return copy
}
