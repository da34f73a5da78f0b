/** The keys that are this peer's own; apart from the publisher's keys, which are its owner's. */
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { readKeyFile, writeKeyFile } from '../release/key-file.ts'

/**
 * One of the peer's keys from the folder of keys, made at the first start: `peer` is its identity among peers, `sharer`
 * the secret that its pseudonyms come from.
 *
 * @throws RowanError KEY_INVALID when it is damaged or readable by others, DISK_FULL
 */
export async function loadPeerKey(keysFolder: string, purpose: 'peer' | 'sharer' = 'peer'): Promise<Ed25519PrivateKey> {
  const path = join(keysFolder, `${purpose}.key`)
  const known = await readKeyFile(path, purpose)
  if (known !== undefined) return known
  const key = await generateKeyPair('Ed25519')
  await writeKeyFile(path, purpose, key)
  return key
}
