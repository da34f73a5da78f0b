/**
 * Where in the DHT a record lives.
 *
 * Each table hashes its names under a prefix of its own. Kademlia's distance is taken between the SHA-256 of the key
 * (kad-dht hashes what it is given) and the SHA-256 of a peer id's multihash.
 */

import { peerIdFromString } from '@libp2p/peer-id'
import { type Hash, sha256 } from '../image/hash.ts'

export type TableName = 'latest' | 'replicas' | 'sharers'

const encoder = new TextEncoder()

/** The key of a name in a table, 32 bytes, as it is handed to kad-dht. */
export function kadKey(table: TableName, name: string): Uint8Array {
  return sha256(encoder.encode(`/rowan/${table}/${name}`))
}

/** The place of a key in kad-dht's space of ids: it hashes every key once more. */
export function placeOfKey(key: Uint8Array): Hash {
  return sha256(key)
}

/** The place of a peer in kad-dht's space of ids. */
export function placeOfPeer(peer: string): Hash {
  return sha256(peerIdFromString(peer).toMultihash().bytes)
}

/** Which of two places is nearer to a third by XOR: negative for `a`, positive for `b`, 0 for the same place. */
export function compareDistance(to: Hash, a: Hash, b: Hash): number {
  for (let i = 0; i < to.length; i++) {
    const difference = (a[i]! ^ to[i]!) - (b[i]! ^ to[i]!)
    if (difference !== 0) return difference
  }
  return 0
}
