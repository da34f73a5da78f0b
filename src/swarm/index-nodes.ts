/**
 * Places in an image's index, as far as the wire is concerned with them.
 */

import { EAGER_INDEX_IMAGE_BYTES } from '../cluster.ts'
import { nodeCount } from '../image/geometry.ts'
import type { ImageRoot } from '../image/image-root.ts'
import type { LocalImage } from '../store/images.ts'
import type { NodePlace } from './messages.ts'

export function nodeIsInside(root: ImageRoot, place: NodePlace): boolean {
  return place.level <= root.height && place.position < nodeCount(place.level, root.blocks)
}

/**
 * The nodes that follow the root of an image in one go: all that are here, top first, without the top itself (the answer to OPEN
 * carries it). None for an image above EAGER_INDEX_IMAGE_BYTES.
 */
export function eagerNodes(image: LocalImage): NodePlace[] {
  const { root } = image
  if (root.sizeBytes > EAGER_INDEX_IMAGE_BYTES) return []
  const places: NodePlace[] = []
  for (let level = root.height - 1; level >= 0; level--) {
    const count = nodeCount(level, root.blocks)
    for (let position = 0; position < count; position++) {
      if (image.nodeBytes(level, position) !== undefined) places.push({ level, position })
    }
  }
  return places
}
