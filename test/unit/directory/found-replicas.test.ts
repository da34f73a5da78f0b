import { generateKeyPair } from '@libp2p/crypto/keys'
import { beforeEach, describe, expect, test } from 'vitest'
import { REACH, type Reach } from '../../../src/directory/addresses.ts'
import { FoundReplicas } from '../../../src/directory/found-replicas.ts'
import { owned } from '../../../src/directory/messages.ts'
import { sealReplica } from '../../../src/directory/replica-record.ts'
import { HOUR_MS, imageNumber, NOW, seeded } from './support.ts'

const PUBLIC = '/ip4/9.9.9.9/tcp/4001'
const PRIVATE = '/ip4/192.168.1.9/tcp/4001'
const LOOPBACK = '/ip4/127.0.0.1/tcp/4001'

describe('the addresses of a replica that was found', () => {
  let peer: string
  let record: Uint8Array<ArrayBuffer>

  beforeEach(async () => {
    const key = await generateKeyPair('Ed25519')
    peer = key.publicKey.toString()
    const addresses = [PUBLIC, PRIVATE, LOOPBACK]
    const said = { image: imageNumber(1), peer, addresses, complete: true, sequence: 1, expiresMs: NOW + HOUR_MS }
    record = owned(await sealReplica(said, key))
  })

  async function addressesOf(...met: { replica: Reach; holder: Reach }[]): Promise<string[]> {
    const found = new FoundReplicas()
    for (const [i, { replica, holder }] of met.entries()) {
      found.add([{ record, verified: true, met: replica }], { peer: `holder ${i}`, met: holder })
    }
    const { replicas } = await found.open(() => true, NOW, seeded(1))
    return replicas.flatMap(({ addresses }) => addresses).map(address => address.replace(`/p2p/${peer}`, ''))
  }

  test.each([
    [REACH.public, REACH.public, [PUBLIC]],
    [REACH.private, REACH.private, [PUBLIC, PRIVATE]],
    [REACH.loopback, REACH.loopback, [PUBLIC, PRIVATE, LOOPBACK]],
    // A holder far away may say what it likes of private addresses; so may one nearby of a replica far away.
    [REACH.loopback, REACH.public, [PUBLIC]],
    [REACH.public, REACH.loopback, [PUBLIC]]
  ])('with the replica met as %i by a holder that was met as %i', async (replica, holder, expected) => {
    expect(await addressesOf({ replica, holder })).toEqual(expected)
  })

  test('are those of the closest meeting, of several holders', async () => {
    const far = { replica: REACH.public, holder: REACH.loopback }
    const near = { replica: REACH.private, holder: REACH.private }
    expect(await addressesOf(far, near, far)).toEqual([PUBLIC, PRIVATE])
  })
})
