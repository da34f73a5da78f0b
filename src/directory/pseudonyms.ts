/**
 * The names under which this peer shares: a key for each appliance.
 *
 * They are derived from one secret, which is kept like a key and is used for nothing else, so that the same appliance
 * always gets the same name (a sharer counts once, also after a restart), and nobody who knows some of them, or the
 * peer's id, can tell that they belong together. What stays to be seen: a holder knows from which peer a lease came.
 */

import { createHmac } from 'node:crypto'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'

const SEED_BYTES = 32
const MAX_REMEMBERED = 1024

export class Pseudonyms {
  readonly #secret: Uint8Array
  readonly #keys = new Map<string, Promise<Ed25519PrivateKey>>()

  /** @param secret - a key of its own, never the peer's */
  constructor(secret: Ed25519PrivateKey) {
    this.#secret = secret.raw.slice(0, SEED_BYTES)
  }

  /** @param appliance - `PUBLISHER/NAME` */
  of(appliance: string): Promise<Ed25519PrivateKey> {
    let key = this.#keys.get(appliance)
    if (key === undefined) {
      const seed = createHmac('sha256', this.#secret).update(`rowan-pseudonym/1/${appliance}`).digest()
      key = generateKeyPairFromSeed('Ed25519', seed)
      if (this.#keys.size < MAX_REMEMBERED) this.#keys.set(appliance, key)
    }
    return key
  }
}
