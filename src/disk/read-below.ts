/**
 * Reads what lies below a disk's top: of the frozen layers where one of them has it, else of the image.
 */
import type { FrozenMap } from './frozen-map.ts'
import type { ImageReader } from './image-reader.ts'
import { SECTOR_BYTES } from './layer-map.ts'
import { CODE_ABSENT, CODE_ZERO } from './owner-page.ts'

/**
 * Fills `length` bytes of `target`, from `targetOffset` on, with the bytes from `offset` on. Done when it returns, or,
 * where it adds promises to `pending`, when they are; errors as `ImageReader.read` and of the layers' files.
 *
 * @param frozen - undefined: there are no frozen layers
 */
export function readBelow(
  frozen: FrozenMap | undefined,
  image: ImageReader,
  offset: number,
  target: Uint8Array,
  targetOffset: number,
  length: number,
  pending: Promise<void>[]
): void {
  if (frozen === undefined) {
    image.read(offset, target, targetOffset, length, pending)
    return
  }
  const end = offset + length
  const lastSector = Math.ceil(end / SECTOR_BYTES)
  for (let at = offset; at < end; ) {
    const code = frozen.find(Math.floor(at / SECTOR_BYTES), lastSector)
    const runEnd = Math.min(end, frozen.end * SECTOR_BYTES)
    const place = targetOffset + (at - offset)
    if (code === CODE_ABSENT) image.read(at, target, place, runEnd - at, pending)
    else if (code === CODE_ZERO) target.fill(0, place, place + (runEnd - at))
    else frozen.layerOf(code).data.readSync(target, place, runEnd - at, at)
    at = runEnd
  }
}
