/**
 * Makes a peer lie: preloaded into its process (`node --import`), it serves every block with one byte changed.
 *
 * Everything else is the real peer: it holds the true image, announces it and answers in the real protocol. So the
 * wrong bytes arrive over the wire with nothing else wrong about them.
 */
import { LocalImage } from '../../src/store/local-image.ts'

const honest = LocalImage.prototype.verified
LocalImage.prototype.verified = async function (this: LocalImage, block: number) {
  const bytes = await honest.call(this, block)
  if (bytes === undefined) return undefined
  const changed = Uint8Array.from(bytes)
  changed[1000] = changed[1000]! ^ 0xff
  return changed
}
