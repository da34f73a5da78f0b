/**
 * Neighbours: peers of one network, in namespaces, that nobody introduced to each other.
 */
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { temporaryFolder } from '../tools/folders.ts'
import { TestLan } from '../tools/lan.ts'
import { needTools } from '../tools/need.ts'
import { Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'

const MIB = 1024 * 1024

afterEach(endProcesses)

needTools(['unshare', 'nsenter', 'ip'])('on a network of its own', () => {
  test('a peer that knows nobody finds its neighbour, and all blocks of an image there', async () => {
    const lan = await TestLan.create()
    const [first, second] = [await lan.host(), await lan.host()]
    const publisher = await Peer.start({ through: first.through, listen: `/ip4/${first.address}/tcp/0` })
    const image = join(await temporaryFolder(), 'disk.raw')
    await writeFile(image, randomBytes(4 * MIB))
    await publisher.json(['publish', image, 'grid@v1'])
    const volunteer = await Peer.start({ through: second.through, listen: `/ip4/${second.address}/tcp/0` })
    await volunteer.joined()
    const replica = await volunteer.json(['replicate', `${publisher.publisher}/grid@v1`, '--wait'])
    expect(replica.complete).toBe(true)
    await Promise.all([publisher.stop(), volunteer.stop()])
  })

  test('a peer that was told to keep to itself is not found', async () => {
    const lan = await TestLan.create()
    const hosts = [await lan.host(), await lan.host(), await lan.host()]
    const [silent, first, second] = await Promise.all(
      hosts.map(({ address, through }, i) =>
        Peer.start({ through, listen: `/ip4/${address}/tcp/0`, config: i === 0 ? '[network]\nlan = "off"\n' : '' })
      )
    )
    // The other two have found each other, so whoever can be found has been.
    await Promise.all([first!.joined(), second!.joined()])
    expect((await silent!.json(['status'])).peers).toBe(0)
  })
})
