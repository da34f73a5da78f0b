/**
 * What replicas say, brought to the image that it is about: roots, nodes of the index, blocks, what is missing, what they have.
 *
 * A root that is not the image's is a lie; what keeps a right one from being kept here is told to whoever waits for the image.
 */

import type { Clock, Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { imageIdOf } from '../image/image-root.ts'
import type { Images, LocalImage } from '../store/images.ts'
import type { FetchEngine, LinkEvents } from './fetch-engine.ts'
import type { ImageFetch } from './image-fetch.ts'
import type { ImageAnswer, PeerHint } from './messages.ts'
import type { SwarmImage } from './swarm-image.ts'

export interface ReplicaNewsComponents {
  images: Pick<Images, 'create'>
  engine: FetchEngine
  /** Boot profiles that came with a root; passed over if absent. */
  profiles?: { heard(image: string, peer: string, profile: Uint8Array, blocks: number): Promise<void> } | undefined
  /** By its number; images are never taken out. */
  image(number: number): SwarmImage
  all(): Iterable<SwarmImage>
  /** The root of this image is here. */
  opened(image: SwarmImage, local: LocalImage): ImageFetch
  /** A server had no room, and named others. */
  busy(peer: string, others: PeerHint[], retryAfterMs: number): void
  clock: Clock
  log: Log
}

export class ReplicaNews {
  readonly #components: ReplicaNewsComponents

  constructor(components: ReplicaNewsComponents) {
    this.#components = components
  }

  /** What happens on the connection to this peer. */
  from(peer: string): LinkEvents {
    const { engine, image, all, busy } = this.#components
    return {
      image: (number, answer) => this.#rootCame(image(number), peer, answer),
      nodes: (number, parts, missing) => image(number).fetch?.nodesCame(peer, parts, missing),
      block: (number, block, body, compressed, wireBytes) =>
        image(number).fetch?.blockCame(peer, block, body, compressed, wireBytes),
      missing: (number, blocks, reason) => image(number).fetch?.blocksMissing(peer, blocks, reason),
      have: (number, { complete, pages, helps }) => {
        engine.event({ type: 'has', peer, image: number, complete, pages })
        engine.event({ type: 'helps', peer, image: number, helps })
      },
      busy: (others, retryAfterMs) => busy(peer, others, retryAfterMs),
      ended: () => {
        for (const each of all()) each.left(peer)
      }
    }
  }

  async #rootCame(image: SwarmImage, peer: string, answer: ImageAnswer): Promise<void> {
    const { images, engine, clock, log } = this.#components
    if (answer.root.byteLength === 0) {
      // Whoever boots beside this peer may have it in a moment, and will say so.
      if (engine.isOnOwnNetwork(peer)) return
      image.known.failed(peer, new RowanError('NO_REPLICA', 'it does not have the image'), clock.monotonicMs())
      engine.client(peer)?.release(image.number)
      return
    }
    if (imageIdOf(answer.root) !== image.id) {
      engine.accuse(peer, new RowanError('INDEX_INVALID', `not the root of the image ${image.id}`))
      return
    }
    let local: LocalImage
    try {
      local = image.fetch?.image ?? (await images.create(answer.root))
    } catch (cause) {
      const error = asRowanError(cause, 'STORE_IO')
      if (error.code === 'INDEX_INVALID') engine.accuse(peer, error)
      else {
        log.warn('an image cannot be kept', { image: image.id, code: error.code, message: error.message })
        image.failed(error)
      }
      return
    }
    image.line.mark('root of the index', { peer })
    const fetch = this.#components.opened(image, local)
    image.known.worked(peer)
    if (answer.profile.byteLength > 0) this.#heardProfile(image.id, peer, answer.profile, local.root.blocks)
    if (answer.top.byteLength > 0) {
      await fetch.nodesCame(peer, [{ level: local.root.height, position: 0, bytes: answer.top }], [])
    }
    fetch.index.promised(peer, answer.follow)
    engine.event({ type: 'has', peer, image: image.number, complete: answer.complete, pages: [] })
  }

  #heardProfile(image: string, peer: string, profile: Uint8Array, blocks: number): void {
    const { profiles, log } = this.#components
    profiles?.heard(image, peer, profile, blocks).catch(cause => {
      const { code, message } = asRowanError(cause, 'PROFILE_INVALID')
      log.debug("a peer's boot profile was passed over", { peer, image, code, message })
    })
  }
}
