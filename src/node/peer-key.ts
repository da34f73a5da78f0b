/** The key that is this peer's identity among peers; apart from the publisher's keys, which are its owner's. */
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { createKeyFile, readKeyFile } from '../release/key-file.ts'

/**
 * The peer's key from the folder of keys, made at the first start.
 *
 * @throws RowanError KEY_INVALID when it is damaged or readable by others, DISK_FULL
 */
export async function loadPeerKey(keysFolder: string): Promise<Ed25519PrivateKey> {
  const path = join(keysFolder, 'peer.key')
  const known = await readKeyFile(path, 'peer')
  if (known !== undefined) return known
  const key = await generateKeyPair('Ed25519')
  await createKeyFile(path, 'peer', key)
  return key
}
