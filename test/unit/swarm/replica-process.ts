/**
 * A replica of a test image as a process of its own, for tests that kill or stop it. Arguments: seed, blocks, upload rate.
 */
import { keepImage, makeImage, startPeer } from './support.ts'

const [seed, blocks, maxUploadBytesPerSecond] = process.argv.slice(2).map(Number)
const peer = await startPeer({ maxUploadBytesPerSecond: maxUploadBytesPerSecond! })
await keepImage(peer, makeImage(seed!, blocks!))
process.on('message', () => void peer.stop().then(() => process.disconnect()))
process.send?.({ ...peer.hint(), folder: peer.folder })
