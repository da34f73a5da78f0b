/**
 * The images that one requester has open on its stream, by the handles that it gave them.
 *
 * An image may be asked for before it is here. Its handle is open all the same: what is asked of it, maybe before the requester could
 * know, is missing, and when the image comes, the answer to OPEN is given again.
 *
 * Owns: what a handle means, and the use of each image that is here (LocalImage.use), until it is released.
 */

import { RowanError } from '../errors.ts'
import type { LocalImage } from '../store/images.ts'
import { MAX_IMAGES_PER_STREAM } from './limits.ts'
import { ToldImage } from './told-image.ts'

/** An image that is not here (yet). */
interface AwaitedImage {
  id: string
  /** How much of its index is to follow its root. */
  index: number
}

export class OpenedImages {
  readonly #here = new Map<number, ToldImage>()
  readonly #awaited = new Map<number, AwaitedImage>()

  /** @throws RowanError for a handle that is none or not free, and for an image too many */
  check(handle: number): void {
    if (handle === 0 || this.#here.has(handle) || this.#awaited.has(handle)) {
      throw new RowanError('WIRE_INVALID', `OPEN of handle ${handle}`)
    }
    if (this.#here.size + this.#awaited.size >= MAX_IMAGES_PER_STREAM) {
      throw new RowanError('LIMIT_EXCEEDED', `more than ${MAX_IMAGES_PER_STREAM} images open on one stream`)
    }
  }

  /** @param helps - whether this requester's blocks are fetched on its behalf */
  open(handle: number, image: LocalImage, helps: () => boolean): ToldImage {
    const told = new ToldImage(handle, image, helps)
    this.#here.set(handle, told)
    return told
  }

  awaits(handle: number, image: AwaitedImage): void {
    this.#awaited.set(handle, image)
  }

  /**
   * An image came here, and is awaited no longer.
   *
   * @returns the handles under which it was
   */
  came(id: string): { handle: number; index: number }[] {
    const answers: { handle: number; index: number }[] = []
    for (const [handle, awaited] of this.#awaited) {
      if (awaited.id !== id) continue
      this.#awaited.delete(handle)
      answers.push({ handle, index: awaited.index })
    }
    return answers
  }

  release(handle: number): void {
    this.#here.get(handle)?.end()
    if (!this.#here.delete(handle)) this.#awaited.delete(handle)
  }

  releaseAll(): void {
    for (const told of this.#here.values()) told.end()
  }

  /**
   * The image of a request.
   *
   * @returns undefined for one that is not here
   * @throws WIRE_INVALID for a handle that is not open
   */
  requested(handle: number): LocalImage | undefined {
    if (!this.#here.has(handle) && !this.#awaited.has(handle)) {
      throw new RowanError('WIRE_INVALID', `handle ${handle} is not open`)
    }
    return this.image(handle)
  }

  /** The image of an answer: undefined for one that was released meanwhile. */
  image(handle: number): LocalImage | undefined {
    return this.#here.get(handle)?.image
  }

  /** A block of this image came here: partial news for whoever has the image open. */
  stored(id: string, block: number): void {
    for (const told of this.#here.values()) if (told.image.id === id) told.stored(block)
  }

  /** Blocks of this image are not here any more. */
  lost(id: string, pages: readonly number[]): void {
    for (const told of this.#here.values()) if (told.image.id === id) told.lost(pages)
  }

  /** The frames that tell what came, and what went, since the last time, and whether the requester is helped. */
  *news(): Generator<Uint8Array> {
    for (const told of this.#here.values()) yield* told.news()
  }
}
