/**
 * The image below a disk that begins with zeros: nothing to read, nothing to fetch.
 */
import { ZERO } from '../store/local-image.ts'
import { EMPTY_IMAGE } from './chain.ts'
import type { BaseImage } from './image-reader.ts'

export class EmptyImage implements BaseImage {
  readonly id: string
  readonly root: { readonly sizeBytes: number }

  constructor(sizeBytes: number, id: string = EMPTY_IMAGE) {
    this.id = id
    this.root = { sizeBytes }
  }

  locate(): number {
    return ZERO
  }

  peek(): number {
    return ZERO
  }

  recheck(): boolean {
    return true
  }
}
